//! Settings that can't be the outer transaction's, and the placeholders that stand in for them.
//!
//! Of these settings the server would make something other than the client means: a timeout for a transaction that is
//! idle would end the outer one, which mostly is, and the isolation level it is asked for can't be had. So each is
//! redirected to a placeholder setting of our own, which does nothing, but is told, kept for each session, and undone with
//! its transaction, as any other. Its name is put in place of the real one where a statement's text sets or tells it, and
//! the backend sees to the rest:
//!
//! | a client's | is sent as |
//! |---|---|
//! | `SET timeout = value` | a [trial](Trial) of the value, and `actix_shareddb.timeout` is set to it |
//! | `set_config('timeout', value, local)` | the same |
//! | `RESET timeout` | the same of `actix_shareddb.timeout` |
//! | `SHOW x`, `current_setting('x')` | the same of `actix_shareddb.x` |
//!
//! The placeholders come into being with the connection, so that they can always be told, and those of timeouts as its
//! [`options`], so that RESET has something to go back to.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::belongings::mentions;
use super::command::{Characteristics, Command, IsolationLevel};
use super::lexer::{Kind, Token, Tokens, dollar_delimiter};
use super::message::{Message, backend};
use super::rewrite::Replacement;
use super::value;

/// Stands before the name of a setting to make it that of its placeholder.
const PREFIX: &str = "actix_shareddb.";

/// A setting that a client sets on its placeholder.
#[derive(Debug, PartialEq, Eq)]
struct Timeout {
    name: &'static str,
    /// The release that brought it, unless all have it that are supported.
    since: u32,
    /// Another setting that takes the same values. To change that for a moment has no effect at all.
    alike: &'static str,
}

const TIMEOUTS: [Timeout; 3] = [
    Timeout {
        name: "idle_in_transaction_session_timeout",
        since: 0,
        alike: "idle_in_transaction_session_timeout",
    },
    Timeout {
        name: "idle_session_timeout",
        since: 0,
        alike: "idle_session_timeout",
    },
    // The server starts to count as soon as this one is set. Those for who is idle count only when nothing runs.
    Timeout {
        name: "transaction_timeout",
        since: 17,
        alike: "idle_session_timeout",
    },
];

/// Settings of which a client is told the placeholder's value. What it asks for, the multiplexer sees to.
const MODES: [&str; 2] = ["transaction_isolation", "transaction_deferrable"];

/// The placeholders of timeouts, as options of a connection.
pub(crate) fn options() -> String {
    TIMEOUTS
        .map(|timeout| format!("-c {PREFIX}{}=0", timeout.name))
        .join(" ")
}

/// An expression that sets the placeholders of modes to a session's defaults.
pub(crate) fn default_modes() -> String {
    MODES
        .map(|mode| {
            format!(
                "pg_catalog.set_config('{PREFIX}{mode}', pg_catalog.current_setting('default_{mode}'), false)"
            )
        })
        .join(", ")
}

/// The placeholders of the modes that are asked for, with their values.
pub(super) fn modes(modes: Characteristics) -> impl Iterator<Item = (String, &'static str)> {
    let deferrable = modes.deferrable.map(|mode| if mode { "on" } else { "off" });
    let values = [modes.isolation.map(IsolationLevel::name), deferrable];
    let asked = MODES.into_iter().zip(values);
    let asked = asked.filter_map(|(mode, value)| Some((mode, value?)));
    asked.map(|(mode, value)| (format!("{PREFIX}{mode}"), value))
}

/// Whether a setting is the placeholder of a mode.
pub(super) fn is_mode(name: &str) -> bool {
    let mode = name.strip_prefix(PREFIX);
    mode.is_some_and(|mode| MODES.contains(&mode))
}

/// The name of the placeholder that is set in the stead of a setting, if there is one.
pub(crate) fn placeholder(name: &str) -> Option<String> {
    timeout(name, None).map(|timeout| format!("{PREFIX}{}", timeout.name))
}

/// A server that doesn't say its release is expected to have all.
fn timeout(name: &str, release: Option<u32>) -> Option<&'static Timeout> {
    TIMEOUTS.iter().find(|timeout| {
        timeout.name.eq_ignore_ascii_case(name)
            && release.is_none_or(|release| release >= timeout.since)
    })
}

/// The placeholder of which a client is told.
fn told(name: &str, release: Option<u32>) -> Option<String> {
    let timeout = timeout(name, release).map(|timeout| timeout.name);
    let mut modes = MODES.into_iter();
    let mode = modes.find(|mode| mode.eq_ignore_ascii_case(name));
    Some(format!("{PREFIX}{}", timeout.or(mode)?))
}

/// A value that is to be set, which the server must accept, and which it writes in a form of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    timeout: &'static Timeout,
    value: Vec<u8>,
    pub(super) local: bool,
}

impl Trial {
    /// Of a setting that is redirected.
    pub(super) fn new(setting: &str, value: Vec<u8>, local: bool) -> Option<Self> {
        Some(Self {
            timeout: timeout(setting, None)?,
            value,
            local,
        })
    }

    pub(super) fn setting(&self) -> &'static str {
        self.timeout.name
    }

    /// What the server says of the trial, as it would say it of the setting.
    pub(super) fn explain(&self, text: &Bytes) -> Bytes {
        let Timeout { name, alike, .. } = self.timeout;
        replace(text, alike.as_bytes(), name.as_bytes())
    }

    /// Sets the placeholder. A value that the real setting wouldn't take is refused in the server's own words.
    pub(super) fn sql(&self, release: Option<u32>) -> Bytes {
        let Timeout { name, alike, .. } = self.timeout;
        if timeout(name, release).is_none() {
            // There is no such setting, and the server is to say so.
            return format!("SET {name} TO DEFAULT").into();
        }
        let mut sql = BytesMut::new();
        let (before, after) = tried(alike);
        let start = format!("SELECT pg_catalog.set_config('{PREFIX}{name}', {before}E'");
        sql.put_slice(start.as_bytes());
        for &byte in &self.value {
            if matches!(byte, b'\'' | b'\\') {
                sql.put_u8(byte);
            }
            sql.put_u8(byte);
        }
        sql.put_slice(format!("'{after}, {})", self.local).as_bytes());
        sql.freeze()
    }
}

/// What stands before and behind an expression that makes it one for the value as the server writes it. The real setting
/// is changed on the way, and set back in the same breath.
fn tried(alike: &str) -> (String, String) {
    (
        format!("pg_catalog.concat(pg_catalog.set_config('{alike}', "),
        format!(", true), pg_catalog.left(pg_catalog.set_config('{alike}', NULL, true), 0))"),
    )
}

/// Whether something may have to be replaced in a statement.
pub(super) fn may_concern(command: &Command, statement: &[u8], scs: bool) -> bool {
    match command {
        Command::Set { setting, .. } | Command::Reset { setting } => {
            timeout(setting, None).is_some()
        }
        Command::Other if is_show(statement, scs) => true,
        _ => calls(statement),
    }
}

fn calls(statement: &[u8]) -> bool {
    mentions(statement, b"current_setting") || mentions(statement, b"set_config")
}

/// What has to be replaced in a statement, in the order in which it stands there.
pub(super) fn replacements(
    command: &Command,
    statement: &[u8],
    scs: bool,
    release: Option<u32>,
) -> Vec<Replacement> {
    let mut replacements = Vec::new();
    match command {
        Command::Set { setting, .. } | Command::Reset { setting } => {
            if timeout(setting, release).is_some()
                && let Some(range) = Command::setting(statement, scs, setting)
            {
                replacements.push(replacement(range, format!("{PREFIX}{setting}")));
            }
        }
        Command::Other if is_show(statement, scs) => {
            if let Some((setting, range)) = Command::shown(statement, scs)
                && let Some(placeholder) = told(&setting, release)
            {
                replacements.push(replacement(range, placeholder));
            }
        }
        _ if calls(statement) => {
            in_calls(
                statement,
                0,
                scs,
                release,
                *command == Command::Do,
                &mut replacements,
            );
        }
        _ => {}
    }
    replacements
}

/// Finds `current_setting('name')` and `set_config('name', ...)`. In the body of a DO, too, if its quotes leave it as it is.
fn in_calls(
    text: &[u8],
    offset: usize,
    scs: bool,
    release: Option<u32>,
    in_bodies: bool,
    replacements: &mut Vec<Replacement>,
) {
    let tokens: Vec<_> = Tokens::new(text, scs).collect();
    for (at, token) in tokens.iter().enumerate() {
        if in_bodies
            && token.kind == Kind::String
            && let Some(delimiter) = dollar_delimiter(token.text)
        {
            let body = &token.text[delimiter.len()..token.text.len() - delimiter.len()];
            in_calls(
                body,
                offset + token.start + delimiter.len(),
                scs,
                release,
                true,
                replacements,
            );
            continue;
        }
        let sets = is_call_of(token, "set_config");
        let Some([open, name, rest @ ..]) = tokens
            .get(at + 1..)
            .filter(|_| sets || is_call_of(token, "current_setting"))
        else {
            continue;
        };
        let Some(setting) = value::string(name, scs).filter(|_| open.is_symbol("(")) else {
            continue;
        };
        let setting = String::from_utf8_lossy(&setting);
        let place = |range: Range<usize>| offset + range.start..offset + range.end;
        let name = place(name.start..name.start + name.text.len());
        if !sets {
            let placeholder = told(&setting, release);
            replacements.extend(placeholder.map(|told| replacement(name, format!("'{told}'"))));
        } else if let Some(Timeout {
            name: set, alike, ..
        }) = timeout(&setting, release)
            && let Some(argument) = second_argument(rest)
        {
            let Range { start, end } = place(argument);
            let (before, after) = tried(alike);
            replacements.push(replacement(name, format!("'{PREFIX}{set}'")));
            replacements.push(replacement(start..start, before));
            replacements.push(replacement(end..end, after));
        }
    }
    // A call may stand within another's argument.
    replacements.sort_by_key(|replacement| replacement.range.start);
}

fn is_call_of(token: &Token<'_>, function: &str) -> bool {
    token.is_word(function)
        || token.kind == Kind::QuotedIdentifier
            && token.text.get(1..token.text.len() - 1) == Some(function.as_bytes())
}

/// Where the second argument of a call stands, of which the first has been taken.
fn second_argument(rest: &[Token<'_>]) -> Option<Range<usize>> {
    let (comma, rest) = rest.split_first()?;
    if !comma.is_symbol(",") {
        return None;
    }
    let mut depth = 0_usize;
    let end = rest.iter().position(|token| {
        if depth == 0 && (token.is_symbol(",") || token.is_symbol(")")) {
            return true;
        }
        if token.is_symbol("(") || token.is_symbol("[") {
            depth += 1;
        } else if token.is_symbol(")") || token.is_symbol("]") {
            depth = depth.saturating_sub(1);
        }
        false
    })?;
    let value = &rest[..end];
    let (first, last) = (value.first()?, value.last()?);
    Some(first.start..last.start + last.text.len())
}

fn is_show(statement: &[u8], scs: bool) -> bool {
    Tokens::new(statement, scs)
        .next()
        .is_some_and(|token| token.is_word("SHOW"))
}

fn replacement(range: Range<usize>, text: String) -> Replacement {
    Replacement {
        range,
        text: text.into(),
    }
}

/// A RowDescription with the name that the client's SHOW gave to its only column.
pub(super) fn restore_column(message: &Message) -> Option<Message> {
    const COLUMNS: usize = 2;
    if message.tag() != backend::ROW_DESCRIPTION {
        return None;
    }
    let body = message.body();
    if !body.get(COLUMNS..)?.starts_with(PREFIX.as_bytes()) {
        return None;
    }
    Some(Message::build(backend::ROW_DESCRIPTION, |restored| {
        restored.put_slice(&body[..COLUMNS]);
        restored.put_slice(&body[COLUMNS + PREFIX.len()..]);
    }))
}

/// The text of an error about a placeholder, as it would be about the setting.
pub(super) fn restore_names(text: &Bytes) -> Bytes {
    if !mentions(text, PREFIX.as_bytes()) {
        return text.clone();
    }
    TIMEOUTS
        .iter()
        .fold(text.clone(), |text, Timeout { name, .. }| {
            replace(&text, format!("{PREFIX}{name}").as_bytes(), name.as_bytes())
        })
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    let mut replaced = BytesMut::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(from) {
            replaced.put_slice(to);
            rest = tail;
        } else {
            replaced.put_u8(byte);
            rest = tail;
        }
    }
    replaced.freeze()
}

#[cfg(test)]
mod tests;
