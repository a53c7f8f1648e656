//! What the fuzz targets run, and what they compare with PostgreSQL's own parser.

mod sql;

pub(crate) use self::sql::sql;
use super::tests::model::{forger, stranger};

pub(crate) fn frontend(data: &[u8]) {
    stranger::frontend(data);
}

pub(crate) fn backend(data: &[u8]) {
    forger::backend(data);
}

/// What is compared with PostgreSQL's own parser.
#[cfg(fuzzing)]
pub(crate) mod oracle {
    use std::ops::Range;

    use crate::mux::command::Command;
    use crate::mux::lexer::Tokens;
    use crate::mux::split;

    pub(crate) fn statements(sql: &str) -> Vec<Range<usize>> {
        split::statements(sql.as_bytes(), true)
    }

    pub(crate) fn tokens(sql: &str) -> Vec<Range<usize>> {
        Tokens::new(sql.as_bytes(), true)
            .map(|token| token.start..token.start + token.text.len())
            .collect()
    }

    pub(crate) fn command(statement: &str) -> String {
        format!("{:?}", Command::of(statement.as_bytes(), true))
    }
}

#[cfg(test)]
mod tests;
