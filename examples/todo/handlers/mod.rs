//! What the application does, one resource a file.

pub(crate) mod todos;
pub(crate) mod transfers;
pub(crate) mod users;

use crate::errors::ApiError;

/// Text that a person typed: without the white space around it, one line of at most `max` characters.
fn text(field: &'static str, value: &str, max: usize) -> Result<String, ApiError> {
    let value = value.trim();
    if value.is_empty() {
        return Err(ApiError::Invalid {
            field,
            problem: "must not be empty",
        });
    }
    if value.chars().any(char::is_control) {
        return Err(ApiError::Invalid {
            field,
            problem: "must not contain control characters",
        });
    }
    if value.chars().count() > max {
        return Err(ApiError::Invalid {
            field,
            problem: "is too long",
        });
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_that_is_neither_empty_nor_too_long() {
        let refusal = |value| match text("title", value, 5) {
            Err(ApiError::Invalid { problem, .. }) => Some(problem),
            _ => None,
        };
        assert_eq!(text("title", " milk\n", 5).unwrap(), "milk");
        assert_eq!(refusal("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"), None);
        assert_eq!(refusal("butter"), Some("is too long"));
        assert_eq!(refusal(" \t "), Some("must not be empty"));
        assert_eq!(refusal("a\0b"), Some("must not contain control characters"));
    }
}
