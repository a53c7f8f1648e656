//! What becomes of a test that has failed, as the environment says.

use std::env;

use crate::error::{Error, Result};

const VARIABLE: &str = "ACTIX_SHAREDDB_ON_FAILURE";

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It ends as any other.
    End,
    /// If it has a database of its own, that is kept.
    Keep,
    /// It waits until somebody has looked.
    Pause,
}

impl OnFailure {
    /// # Errors
    ///
    /// If the variable has another value than those there are.
    pub(crate) fn of_environment() -> Result<Self> {
        Self::parse(env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()))
    }

    fn parse(value: Option<String>) -> Result<Self> {
        match value.as_deref().map(str::trim) {
            // CI systems can often empty a variable, but not unset it.
            None | Some("") => Ok(Self::End),
            Some("keep") => Ok(Self::Keep),
            Some("pause") => Ok(Self::Pause),
            Some(other) => Err(Error::new(format!("{VARIABLE} is '{other}'"))
                .help("it is 'keep' or 'pause', or not set")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_read() {
        let parse = |value: &str| OnFailure::parse(Some(value.to_owned())).unwrap();
        assert_eq!(OnFailure::parse(None).unwrap(), OnFailure::End);
        assert_eq!(parse(""), OnFailure::End);
        assert_eq!(parse("keep"), OnFailure::Keep);
        assert_eq!(parse(" pause\n"), OnFailure::Pause);
    }

    #[test]
    fn another_value_is_an_error_that_says_which_there_are() {
        let error = OnFailure::parse(Some("Pause".to_owned())).unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "ACTIX_SHAREDDB_ON_FAILURE is 'Pause'\n  help: it is 'keep' or 'pause', or not set"
        );
    }
}
