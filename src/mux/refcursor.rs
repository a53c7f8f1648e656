//! Cursors that functions open.
//!
//! Nothing in a statement's text shows what they are called, and as portals of the outer transaction they would outlive that
//! of their session. Their names are values of the type `refcursor`, so once such a value has been returned, all cursors that
//! aren't known to be a session's are closed before the next transaction begins.

use super::message::Message;

/// The type `refcursor`, by its number in the catalog.
const REFCURSOR: i32 = 1790;

/// Whether a RowDescription has a column of that type.
pub(super) fn is_described(row_description: &Message) -> bool {
    let body = row_description.body();
    let mut columns = body.get(2..).unwrap_or_default();
    while let Some(name) = columns.iter().position(|&byte| byte == 0)
        && let Some((column, rest)) = columns[name + 1..].split_at_checked(18)
    {
        // Behind the number of the table, and that of the column there.
        if column[6..10] == REFCURSOR.to_be_bytes() {
            return true;
        }
        columns = rest;
    }
    false
}

/// What closes them. The names of sessions' own begin with a tilde, and one that can't be closed is no reason to lose
/// everything else.
pub(super) const CLOSE: &str = "DO $actix_shareddb$ DECLARE cursor_name text; BEGIN \
     FOREACH cursor_name IN ARRAY ARRAY(SELECT name FROM pg_catalog.pg_cursors \
     WHERE name <> '' AND name NOT LIKE '~%' AND NOT is_holdable) \
     LOOP EXECUTE pg_catalog.format('CLOSE %I', cursor_name); END LOOP; \
     EXCEPTION WHEN others THEN NULL; END $actix_shareddb$";

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;

    use super::*;

    fn row_description(types: &[i32]) -> Message {
        Message::build(b'T', |body| {
            body.put_i16(i16::try_from(types.len()).unwrap());
            for &type_of in types {
                body.put_slice(b"column\0");
                body.put_i32(0);
                body.put_i16(0);
                body.put_i32(type_of);
                body.put_i16(-1);
                body.put_i32(-1);
                body.put_i16(0);
            }
        })
    }

    #[test]
    fn any_column_may_be_a_cursor() {
        assert!(is_described(&row_description(&[23, 1790])));
        assert!(is_described(&row_description(&[1790])));
        assert!(!is_described(&row_description(&[25, 23])));
        assert!(!is_described(&row_description(&[])));
        assert!(!is_described(&Message::build(b'T', |body| body.put_i16(3))));
    }
}
