//! A choice by an environment variable.

use std::env;

use crate::error::{Error, Result};

/// The value of a variable, if it is set.
pub(crate) fn value(variable: &str) -> Option<String> {
    env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

/// What a variable's value chooses of these; `None` where it isn't set, or empty: CI systems can often empty a variable, but
/// not unset it.
///
/// # Errors
///
/// If it is another value, with those there are.
pub(crate) fn choose<T: Copy>(
    variable: &str,
    value: Option<&str>,
    choices: &[(&str, T)],
) -> Result<Option<T>> {
    let value = match value.map(str::trim) {
        None | Some("") => return Ok(None),
        Some(value) => value,
    };
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(Some(*choice));
    }
    let names: Vec<_> = choices
        .iter()
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    let names = names.join(" or ");
    Err(Error::new(format!("{variable} is '{value}'")).help(format!("it is {names}, or not set")))
}
