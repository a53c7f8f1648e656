//! Whether what a client has sent has the fields that a message of its type has, and nothing else.
//!
//! PostgreSQL looks at a message's fields before it does anything, and an error of its own is the answer to one whose
//! fields don't add up. What is answered here, or sent on in other words, would be let off lightly without a look of ours.

use super::message::{Fields, Message, frontend};

/// Whether PostgreSQL would find all fields of a message, and nothing behind them. It looks no further at those of a COPY.
pub(super) fn is_sound(message: &Message) -> bool {
    let mut fields = message.fields();
    let is_whole = match message.tag() {
        frontend::QUERY => skip_strings(&mut fields, 1),
        // The types of its parameters.
        frontend::PARSE => skip_strings(&mut fields, 2).and_then(|()| fields.skip_all(4)),
        frontend::BIND => skip_strings(&mut fields, 2).and_then(|()| skip_values(&mut fields)),
        frontend::DESCRIBE | frontend::CLOSE => fields
            .byte()
            .filter(|kind| b"SP".contains(kind))
            .and_then(|_| skip_strings(&mut fields, 1)),
        frontend::EXECUTE => skip_strings(&mut fields, 1).and_then(|()| fields.int().map(drop)),
        frontend::SYNC | frontend::FLUSH => Some(()),
        _ => return true,
    };
    is_whole.is_some() && fields.rest().is_empty()
}

fn skip_strings(fields: &mut Fields, count: usize) -> Option<()> {
    (0..count).try_for_each(|_| fields.skip_string())
}

/// The values of a Bind's parameters between their formats and those of the results.
fn skip_values(fields: &mut Fields) -> Option<()> {
    fields.skip_all(2)?;
    (0..fields.short()?).try_for_each(|_| match usize::try_from(fields.int()?) {
        Ok(length) => fields.skip(length),
        Err(_) => Some(()),
    })?;
    fields.skip_all(2)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn is_sound_with(tag: u8, body: &[u8]) -> bool {
        is_sound(&Message::build(tag, |frame| frame.put_slice(body)))
    }

    #[test]
    fn a_byte_less_or_more_makes_it_unsound() {
        for (tag, body) in [
            (b'Q', &b"SELECT 1\0"[..]),
            (b'P', b"s\0SELECT $1\0\0\x02\0\0\0\x19\0\0\0\0"),
            (
                b'B',
                b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\0",
            ),
            (b'D', b"Ss\0"),
            (b'C', b"Pp\0"),
            (b'E', b"p\0\0\0\0\x07"),
            (b'S', b""),
            (b'H', b""),
        ] {
            assert!(is_sound_with(tag, body), "{}", char::from(tag));
            assert!(
                !is_sound_with(tag, &[body, b"?"].concat()),
                "{}",
                char::from(tag)
            );
            for end in 0..body.len() {
                assert!(
                    !is_sound_with(tag, &body[..end]),
                    "{} {end}",
                    char::from(tag)
                );
            }
        }
        assert!(!is_sound_with(b'D', b"Xs\0"));
        // Whose fields the server looks at when it runs them, or never.
        for tag in *b"Fdcf" {
            assert!(is_sound_with(tag, b"?"));
        }
    }
}
