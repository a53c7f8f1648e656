use std::ops::Range;

use bytes::Bytes;

use super::{Replacement, Rewritten, quoted};

fn replacement(range: Range<usize>, text: &'static str) -> Replacement {
    Replacement {
        range,
        text: Bytes::from_static(text.as_bytes()),
    }
}

#[test]
fn positions_lead_back_to_what_the_client_wrote() {
    //          1234567890123456789
    let text = "EXECUTE x(y) AND zz";
    let replacements = [replacement(8..9, "\"~1~x\""), replacement(17..19, "z")];
    let rewritten = Rewritten::of(text.as_bytes(), 0..text.len(), &replacements);
    //                                      1234567890123456789012345
    assert_eq!(&rewritten.text[..], &b"EXECUTE \"~1~x\"(y) AND z"[..]);
    for (sent, written) in [
        (1, 1),
        (8, 8),
        (9, 9),
        (10, 9),
        (14, 9),
        (15, 10),
        (16, 11),
        (22, 17),
        (23, 18),
        (24, 20),
    ] {
        assert_eq!(rewritten.shifts.written(sent), written, "{sent}");
    }
}

#[test]
fn positions_count_characters() {
    let text = "EXECUTE \u{e9}t\u{e9} (\u{fc}, b)";
    let start = text.find('\u{e9}').unwrap();
    let end = text.find(" (").unwrap();
    let replacements = [replacement(start..end, "\"~1~\u{e9}t\u{e9}\"")];
    let rewritten = Rewritten::of(text.as_bytes(), 0..text.len(), &replacements);
    let sent = String::from_utf8(rewritten.text.to_vec()).unwrap();
    let position = |text: &str| 1 + text.chars().position(|char| char == 'b').unwrap();
    assert_eq!(rewritten.shifts.written(position(&sent)), position(text));
}

#[test]
fn a_part_of_a_text_is_rewritten_by_itself() {
    let text = b"SELECT 1; EXECUTE x; SELECT 2";
    let replacements = [replacement(18..19, "y")];
    let rewritten = Rewritten::of(text, 10..19, &replacements);
    assert_eq!(&rewritten.text[..], b"EXECUTE y");
    assert_eq!(rewritten.shifts.written(9), 9);
}

#[test]
fn a_name_does_not_run_into_another() {
    //           123456789
    let text = b"CLOSE a\"b\" c";
    let replacements = [replacement(6..7, "\"~1~a\"")];
    let rewritten = Rewritten::of(text, 0..text.len(), &replacements);
    //                                    123456789012345
    assert_eq!(&rewritten.text[..], &b"CLOSE \"~1~a\" \"b\" c"[..]);
    for (sent, written) in [(7, 7), (13, 7), (14, 8), (15, 9), (18, 12)] {
        assert_eq!(rewritten.shifts.written(sent), written, "{sent}");
    }

    let text = b"FETCH \"b\"a";
    let replacements = [replacement(9..10, "\"~1~a\"")];
    let rewritten = Rewritten::of(text, 0..text.len(), &replacements);
    assert_eq!(&rewritten.text[..], b"FETCH \"b\" \"~1~a\"");
    assert_eq!(rewritten.shifts.written(11), 10);

    let text = b"FETCH u&a";
    let replacements = [replacement(8..9, "\"~1~a\"")];
    let rewritten = Rewritten::of(text, 0..text.len(), &replacements);
    assert_eq!(&rewritten.text[..], b"FETCH u& \"~1~a\"");
    assert_eq!(rewritten.shifts.written(10), 9);
}

#[test]
fn a_quote_in_a_name_is_doubled() {
    assert_eq!(&quoted(b"a\"b")[..], b"\"a\"\"b\"");
}
