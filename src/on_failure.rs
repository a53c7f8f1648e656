//! What becomes of a test that has failed, as the environment says.

use crate::choice;
use crate::error::Result;

const VARIABLE: &str = "ACTIX_SHAREDDB_ON_FAILURE";
const CHOICES: &[(&str, OnFailure)] = &[("keep", OnFailure::Keep), ("pause", OnFailure::Pause)];

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
        Self::parse(choice::value(VARIABLE))
    }

    fn parse(value: Option<String>) -> Result<Self> {
        let chosen = choice::choose(VARIABLE, value.as_deref(), CHOICES)?;
        Ok(chosen.unwrap_or(Self::End))
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
