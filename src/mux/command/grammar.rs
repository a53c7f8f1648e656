//! The productions of PostgreSQL's `gram.y` that lead to a [`Command`], in its own names where there are any.
//!
//! Each takes its tokens from the front, and returns `None` where the grammar has nothing of the kind.

use super::cursor::Cursor;
use super::{Argument, Characteristics, Command, Discard, IsolationLevel};
use super::{definition, mention};
use crate::mux::encoding;
use crate::mux::redirect::Trial;
use crate::mux::value::Name;

pub(super) fn stmt(cursor: &mut Cursor<'_>) -> Option<Command> {
    let keyword = cursor.next()?;
    let is = |word| keyword.is_word(word);
    if is("BEGIN") {
        begin(cursor, false)
    } else if is("START") {
        cursor.keyword("TRANSACTION")?;
        begin(cursor, true)
    } else if is("COMMIT") {
        two_phase(cursor, "PREPARED", Command::CommitPrepared).or_else(|| commit(cursor))
    } else if is("END") {
        commit(cursor)
    } else if is("ROLLBACK") {
        two_phase(cursor, "PREPARED", Command::RollbackPrepared)
            .or_else(|| rollback_to(cursor))
            .or_else(|| rollback(cursor))
    } else if is("ABORT") {
        rollback(cursor)
    } else if is("SAVEPOINT") {
        let name = cursor.name()?;
        cursor.end(Command::Savepoint(name))
    } else if is("RELEASE") {
        let name = savepoint(cursor)?;
        cursor.end(Command::Release(name))
    } else if is("PREPARE") {
        two_phase(cursor, "TRANSACTION", Command::PrepareTransaction).or_else(|| prepare(cursor))
    } else if is("EXECUTE") {
        Some(Command::Execute(cursor.name()?))
    } else if is("EXPLAIN") {
        mention::explained(cursor).map(|mention| Command::ReadPrepared(mention.name))
    } else if is("DEALLOCATE") {
        deallocate(cursor)
    } else if is("SET") {
        set(cursor)
    } else if is("RESET") {
        reset(cursor)
    } else if is("DISCARD") {
        discard(cursor)
    } else if is("DECLARE") {
        declare_cursor(cursor)
    } else if is("CLOSE") {
        let command = match cursor.accept("ALL") {
            true => Command::CloseAll,
            false => Command::CloseCursor(cursor.name()?),
        };
        cursor.end(command)
    } else if is("COPY") {
        copy(cursor)
    } else if is("LISTEN") {
        let channel = cursor.name()?;
        cursor.end(Command::Listen(channel))
    } else if is("UNLISTEN") {
        let command = match cursor.accept_symbol("*") {
            true => Command::UnlistenAll,
            false => Command::Unlisten(cursor.name()?),
        };
        cursor.end(command)
    } else if is("NOTIFY") {
        notify(cursor)
    } else if is("SELECT") {
        unlock_all(cursor.clone()).or_else(|| pg_notify(cursor))
    } else if is("LOCK") {
        cursor.next().map(|_| Command::Lock)
    } else if is("CALL") {
        Some(Command::Call)
    } else if is("DO") {
        Some(Command::Do)
    } else {
        definition::stmt(&keyword, cursor)
    }
}

fn begin(cursor: &mut Cursor<'_>, start: bool) -> Option<Command> {
    if !start {
        opt_transaction(cursor);
    }
    let modes = transaction_modes(cursor)?;
    cursor.end(Command::Begin { start, modes })
}

fn commit(cursor: &mut Cursor<'_>) -> Option<Command> {
    opt_transaction(cursor);
    let chain = opt_transaction_chain(cursor)?;
    cursor.end(Command::Commit { chain })
}

fn rollback(cursor: &mut Cursor<'_>) -> Option<Command> {
    opt_transaction(cursor);
    let chain = opt_transaction_chain(cursor)?;
    cursor.end(Command::Rollback { chain })
}

fn rollback_to(cursor: &Cursor<'_>) -> Option<Command> {
    let mut cursor = cursor.clone();
    opt_transaction(&mut cursor);
    cursor.keyword("TO")?;
    let name = savepoint(&mut cursor)?;
    cursor.end(Command::RollbackTo(name))
}

/// `[SAVEPOINT] name`, where the name may be `savepoint`.
fn savepoint(cursor: &mut Cursor<'_>) -> Option<Name> {
    let mut named = cursor.clone();
    if named.accept("SAVEPOINT") && !named.is_at_end() {
        *cursor = named;
    }
    cursor.name()
}

/// The commands of two-phase commit: a keyword and the global identifier of a transaction.
fn two_phase(cursor: &Cursor<'_>, keyword: &str, command: Command) -> Option<Command> {
    let mut cursor = cursor.clone();
    cursor.keyword(keyword)?;
    cursor.string()?;
    cursor.end(command)
}

fn opt_transaction(cursor: &mut Cursor<'_>) {
    let _ = cursor.accept("WORK") || cursor.accept("TRANSACTION");
}

fn opt_transaction_chain(cursor: &mut Cursor<'_>) -> Option<bool> {
    if !cursor.accept("AND") {
        return Some(false);
    }
    let chain = !cursor.accept("NO");
    cursor.keyword("CHAIN")?;
    Some(chain)
}

/// All modes up to the end, with a comma or nothing between them. The last of several about the same wins.
fn transaction_modes(cursor: &mut Cursor<'_>) -> Option<Characteristics> {
    let mut modes = Characteristics::default();
    if cursor.is_at_end() {
        return Some(modes);
    }
    loop {
        if cursor.accept("ISOLATION") {
            cursor.keyword("LEVEL")?;
            modes.isolation = Some(isolation_level(cursor)?);
        } else if cursor.accept("READ") {
            let read_only = cursor.accept("ONLY");
            if !read_only {
                cursor.keyword("WRITE")?;
            }
            modes.read_only = Some(read_only);
        } else {
            let deferrable = !cursor.accept("NOT");
            cursor.keyword("DEFERRABLE")?;
            modes.deferrable = Some(deferrable);
        }
        if cursor.is_at_end() {
            return Some(modes);
        }
        cursor.accept_symbol(",");
    }
}

fn isolation_level(cursor: &mut Cursor<'_>) -> Option<IsolationLevel> {
    if cursor.accept("SERIALIZABLE") {
        Some(IsolationLevel::Serializable)
    } else if cursor.accept("REPEATABLE") {
        cursor.keyword("READ")?;
        Some(IsolationLevel::RepeatableRead)
    } else {
        cursor.keyword("READ")?;
        match cursor.accept("COMMITTED") {
            true => Some(IsolationLevel::ReadCommitted),
            false => {
                cursor.keyword("UNCOMMITTED")?;
                Some(IsolationLevel::ReadUncommitted)
            }
        }
    }
}

fn prepare(cursor: &mut Cursor<'_>) -> Option<Command> {
    let name = cursor.name()?;
    let follows = cursor.accept("AS") || cursor.accept_symbol("(");
    follows.then_some(Command::Prepare(name))
}

fn deallocate(cursor: &mut Cursor<'_>) -> Option<Command> {
    let mut after = cursor.clone();
    if after.accept("PREPARE") && !after.is_at_end() {
        *cursor = after;
    }
    let command = match cursor.accept("ALL") {
        true => Command::DeallocateAll,
        false => Command::Deallocate(cursor.name()?),
    };
    cursor.end(command)
}

fn set(cursor: &mut Cursor<'_>) -> Option<Command> {
    if let Some(command) = set_constraints(cursor).or_else(|| set_rest(cursor, false)) {
        return Some(command);
    }
    let local = cursor.accept("LOCAL");
    if !local {
        cursor.keyword("SESSION")?;
    }
    set_rest(cursor, local)
}

fn set_constraints(cursor: &Cursor<'_>) -> Option<Command> {
    let mut cursor = cursor.clone();
    cursor.keyword("CONSTRAINTS")?;
    let all = cursor.accept("ALL");
    if !all {
        cursor.qualified_name()?;
        while cursor.accept_symbol(",") {
            cursor.qualified_name()?;
        }
    }
    let deferred = cursor.accept("DEFERRED");
    if !deferred {
        cursor.keyword("IMMEDIATE")?;
    }
    cursor.end(Command::SetConstraints { all, deferred })
}

/// What follows `SET` and the words LOCAL or SESSION, which are also names that a setting could have.
fn set_rest(cursor: &Cursor<'_>, local: bool) -> Option<Command> {
    set_transaction(cursor)
        .or_else(|| set_session_characteristics(cursor))
        .or_else(|| set_names(cursor))
        .or_else(|| {
            let setting = set_special(cursor)?;
            Some(Command::Set { local, setting })
        })
        .or_else(|| set_generic(cursor, local))
}

fn set_transaction(cursor: &Cursor<'_>) -> Option<Command> {
    let mut cursor = cursor.clone();
    cursor.keyword("TRANSACTION")?;
    if cursor.accept("SNAPSHOT") {
        cursor.string()?;
        return cursor.end(Command::SetTransactionSnapshot);
    }
    let modes = transaction_mode_list(&mut cursor)?;
    Some(Command::SetTransaction(modes))
}

fn set_session_characteristics(cursor: &Cursor<'_>) -> Option<Command> {
    let mut cursor = cursor.clone();
    for keyword in ["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"] {
        cursor.keyword(keyword)?;
    }
    let modes = transaction_mode_list(&mut cursor)?;
    Some(Command::SetSessionCharacteristics(modes))
}

fn transaction_mode_list(cursor: &mut Cursor<'_>) -> Option<Characteristics> {
    if cursor.is_at_end() {
        return None;
    }
    transaction_modes(cursor)
}

/// The settings with a syntax of their own. Most of their words are also names of the ordinary kind.
fn set_special(cursor: &Cursor<'_>) -> Option<String> {
    let mut cursor = cursor.clone();
    let setting = if cursor.accept("TIME") {
        cursor.keyword("ZONE")?;
        "timezone"
    } else if cursor.accept("NAMES") {
        "client_encoding"
    } else if cursor.accept("SCHEMA") {
        "search_path"
    } else if cursor.accept("ROLE") {
        "role"
    } else if cursor.accept("SESSION") {
        cursor.keyword("AUTHORIZATION")?;
        "session_authorization"
    } else {
        cursor.keyword("XML")?;
        cursor.keyword("OPTION")?;
        "xmloption"
    };
    (!cursor.is_at_assignment()).then(|| setting.to_owned())
}

/// `SET NAMES`, if that is what matters of it.
fn set_names(cursor: &Cursor<'_>) -> Option<Command> {
    let mut cursor = cursor.clone();
    cursor.keyword("NAMES")?;
    let encoding = cursor.literal().filter(|_| cursor.is_at_end())?;
    unsafe_encoding(&encoding)
}

fn unsafe_encoding(value: &[u8]) -> Option<Command> {
    let name = String::from_utf8_lossy(value).into_owned();
    encoding::is_unsafe(&name).then_some(Command::SetUnsafeEncoding(name))
}

fn set_generic(cursor: &Cursor<'_>, local: bool) -> Option<Command> {
    let mut cursor = cursor.clone();
    let setting = cursor.setting()?;
    if !cursor.is_at_assignment() {
        return None;
    }
    let value = value(&mut cursor);
    let known = value.and_then(|value| {
        if setting == "client_encoding" {
            return unsafe_encoding(&value);
        }
        let mode = mode(&setting, &value, local);
        mode.or_else(|| Trial::new(&setting, value, local).map(Command::SetRedirected))
    });
    Some(known.unwrap_or(Command::Set { local, setting }))
}

/// A SET of a mode of transactions by its name, if that has such a value.
fn mode(setting: &str, value: &[u8], local: bool) -> Option<Command> {
    let mut modes = Characteristics::default();
    match setting {
        "transaction_isolation" | "default_transaction_isolation" => {
            let levels = [
                IsolationLevel::ReadUncommitted,
                IsolationLevel::ReadCommitted,
                IsolationLevel::RepeatableRead,
                IsolationLevel::Serializable,
            ];
            let is_named =
                |level: &IsolationLevel| value.eq_ignore_ascii_case(level.name().as_bytes());
            modes.isolation = Some(levels.into_iter().find(is_named)?);
        }
        "transaction_read_only" => modes.read_only = Some(boolean(value)?),
        "transaction_deferrable" => modes.deferrable = Some(boolean(value)?),
        _ => return None,
    }
    match (setting, local) {
        ("default_transaction_isolation", true) => None,
        ("default_transaction_isolation", false) => Some(Command::SetSessionCharacteristics(modes)),
        _ => Some(Command::SetMode { local, modes }),
    }
}

/// Any of these words, or the start of one if it is that of no other.
fn boolean(value: &[u8]) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let words = ["true", "yes", "on", "1", "false", "no", "off", "0"];
    let mut places = words.iter().enumerate().filter(|(_, word)| {
        let is_start = word.as_bytes().starts_with(&value) && !value.is_empty();
        word.as_bytes() == value || is_start && value != b"o"
    });
    places.next().map(|(place, _)| place < 4)
}

/// What is assigned, if it is a single value up to the end: neither DEFAULT nor FROM CURRENT, nor anything that the server
/// refuses.
fn value(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let assigns = cursor.accept_symbol("=") || cursor.accept("TO");
    let value = assigns.then(|| cursor.literal()).flatten();
    value.filter(|_| cursor.is_at_end())
}

fn reset(cursor: &mut Cursor<'_>) -> Option<Command> {
    if cursor.accept("ALL") {
        return cursor.end(Command::ResetAll);
    }
    for (words, setting) in [
        (["TIME", "ZONE"].as_slice(), "timezone"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
        (
            &["TRANSACTION", "ISOLATION", "LEVEL"],
            "transaction_isolation",
        ),
    ] {
        let mut cursor = cursor.clone();
        if words.iter().all(|word| cursor.accept(word)) {
            let setting = setting.to_owned();
            return cursor.end(Command::Reset { setting });
        }
    }
    let setting = cursor.setting()?;
    cursor.end(Command::Reset { setting })
}

fn discard(cursor: &mut Cursor<'_>) -> Option<Command> {
    let target = match cursor.next()? {
        token if token.is_word("ALL") => Discard::All,
        token if token.is_word("PLANS") => Discard::Plans,
        token if token.is_word("SEQUENCES") => Discard::Sequences,
        token if token.is_word("TEMP") || token.is_word("TEMPORARY") => Discard::Temp,
        _ => return None,
    };
    cursor.end(Command::Discard(target))
}

fn declare_cursor(cursor: &mut Cursor<'_>) -> Option<Command> {
    let name = cursor.name()?;
    while !cursor.accept("CURSOR") {
        let option = cursor.next()?;
        let words = ["NO", "SCROLL", "BINARY", "ASENSITIVE", "INSENSITIVE"];
        if !option.is_one_of(&words) {
            return None;
        }
    }
    let hold = cursor.accept("WITH");
    if hold || cursor.accept("WITHOUT") {
        cursor.keyword("HOLD")?;
    }
    cursor.keyword("FOR")?;
    Some(Command::DeclareCursor { name, hold })
}

fn copy(cursor: &mut Cursor<'_>) -> Option<Command> {
    cursor.accept("BINARY");
    if !cursor.is_at_symbol("(") {
        cursor.qualified_name()?;
    }
    cursor.skip_parentheses();
    let from = cursor.accept("FROM");
    if !from {
        cursor.keyword("TO")?;
    }
    // PostgreSQL makes no difference between the two names.
    if !cursor.accept("STDIN") {
        cursor.keyword("STDOUT")?;
    }
    Some(match from {
        true => Command::CopyFromStdin,
        false => Command::CopyToStdout,
    })
}

fn notify(cursor: &mut Cursor<'_>) -> Option<Command> {
    let channel = cursor.name()?;
    let payload = match cursor.accept_symbol(",") {
        true => cursor.string()?,
        false => Vec::new(),
    };
    cursor.end(Command::Notify { channel, payload })
}

fn unlock_all(mut cursor: Cursor<'_>) -> Option<Command> {
    if cursor.accept("pg_catalog") {
        cursor.symbol(".")?;
    }
    cursor.keyword("pg_advisory_unlock_all")?;
    cursor.symbol("(")?;
    cursor.symbol(")")?;
    cursor.end(Command::UnlockAll)
}

fn pg_notify(cursor: &mut Cursor<'_>) -> Option<Command> {
    if cursor.accept("pg_catalog") {
        cursor.symbol(".")?;
    }
    cursor.keyword("pg_notify")?;
    cursor.symbol("(")?;
    let channel = text_argument(cursor)?;
    cursor.symbol(",")?;
    let payload = text_argument(cursor)?;
    cursor.symbol(")")?;
    cursor.end(Command::PgNotify { channel, payload })
}

fn text_argument(cursor: &mut Cursor<'_>) -> Option<Argument> {
    let argument = match cursor.parameter() {
        Some(number) => Argument::Parameter(number),
        None => Argument::Text(cursor.string()?),
    };
    if cursor.accept_symbol("::") {
        cursor.keyword("text")?;
    }
    Some(argument)
}
