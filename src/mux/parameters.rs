//! What the server reports of its settings in ParameterStatus: as the backend has them, and as a session was told.

use std::sync::Arc;

/// The values of the settings that are reported, in the order in which they were first. Copies share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Arc<Vec<(String, String)>>);

impl Parameters {
    pub(super) fn new(parameters: Vec<(String, String)>) -> Self {
        Self(Arc::new(parameters))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Names of settings have no case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut parameters = self.iter();
        parameters
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        if self.get(name) == Some(value) {
            return;
        }
        let parameters = Arc::make_mut(&mut self.0);
        match parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => parameters.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Whether nothing can differ, which costs nothing to know.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether transactions are to be read-only by themselves. PostgreSQL tells since release 14.
    pub(super) fn default_transaction_read_only(&self) -> bool {
        self.get(DEFAULT_TRANSACTION_READ_ONLY) == Some("on")
    }

    /// The server's major release.
    pub(super) fn release(&self) -> Option<u32> {
        let version = self.get(SERVER_VERSION)?;
        let digits = version.find(|char: char| !char.is_ascii_digit());
        version[..digits.unwrap_or(version.len())].parse().ok()
    }

    /// Whether a backslash is an ordinary character in a plain string.
    pub(super) fn standard_conforming_strings(&self) -> bool {
        self.get(STANDARD_CONFORMING_STRINGS)
            .is_none_or(|value| value == "on")
    }
}

pub(super) const DEFAULT_TRANSACTION_READ_ONLY: &str = "default_transaction_read_only";
const SERVER_VERSION: &str = "server_version";
const STANDARD_CONFORMING_STRINGS: &str = "standard_conforming_strings";
