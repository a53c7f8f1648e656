//! In which encodings a client may speak.
//!
//! In some, a byte of a character looks like a backslash or a quote, behind which a COMMIT could hide from the lexer, which
//! takes texts for a superset of ASCII as UTF-8 is.

/// Those that PostgreSQL has for clients only, for the same reason, by their letters and digits. Some have
/// several names.
const UNSAFE: [&str; 17] = [
    "big5",
    "win950",
    "windows950",
    "gb18030",
    "gbk",
    "win936",
    "windows936",
    "johab",
    "sjis",
    "shiftjis",
    "mskanji",
    "uhc",
    "shiftjis2004",
    "win932",
    "windows932",
    "win949",
    "windows949",
];

/// Whether a client that has asked for this encoding couldn't be understood.
pub(super) fn is_unsafe(name: &str) -> bool {
    let plain = plain(name);
    UNSAFE.contains(&&plain[..])
}

/// Whether it is UTF-8, by any of its names.
pub(crate) fn is_utf8(name: &str) -> bool {
    ["utf8", "unicode"].contains(&&plain(name)[..])
}

/// PostgreSQL's rule for the names of encodings: only letters and digits count, in whatever case.
fn plain(name: &str) -> String {
    let counts = name.chars().filter(char::is_ascii_alphanumeric);
    counts.map(|char| char.to_ascii_lowercase()).collect()
}

/// Why it can't be had.
pub(crate) fn refusal(name: &str) -> String {
    format!("the client encoding {name} can't be used in a shared transaction")
}

/// The SQLSTATE of that: `feature_not_supported`.
pub(crate) const REFUSED: &str = "0A000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        for name in [
            "SJIS",
            "Shift_JIS",
            "shift-jis-2004",
            "GBK",
            "big5",
            "UHC",
            "GB18030",
            "Johab",
            "Windows-949",
        ] {
            assert!(is_unsafe(name), "{name}");
        }
        for name in [
            "UTF8",
            "utf-8",
            "LATIN1",
            "EUC_JP",
            "SQL_ASCII",
            "WIN1252",
            "",
        ] {
            assert!(!is_unsafe(name), "{name}");
        }
        assert!(is_utf8("utf-8") && is_utf8("UNICODE") && !is_utf8("LATIN1"));
    }
}
