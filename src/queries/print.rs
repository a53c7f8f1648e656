//! Statements and HTTP exchanges as text for a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use super::assemble::milliseconds;
use super::{Answer, Parameter, Queries, Query};
use crate::exchange::Exchange;
use crate::mux::record::Origin;

/// How much of a statement is shown, and of a parameter, in characters.
const LONGEST_SQL: usize = 500;
const LONGEST_PARAMETER: usize = 60;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    None,
    Ansi,
}

impl Colours {
    /// Those of standard error.
    pub(crate) fn of_stderr() -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        match is_wanted && std::io::stderr().is_terminal() {
            true => Self::Ansi,
            false => Self::None,
        }
    }

    fn paint(self, style: &str, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Ansi => format!("\x1b[{style}m{text}\x1b[0m"),
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// A statement on one line.
pub(super) fn line(query: &Query, colours: Colours) -> String {
    let mut line = on_one_line(&query.sql, LONGEST_SQL);
    if !query.parameters.is_empty() {
        let parameters: Vec<_> = query.parameters.iter().map(written).collect();
        let _ = write!(line, "  [{}]", parameters.join(", "));
    }
    match &query.answer {
        Answer::None => line += &colours.red("  => no answer yet"),
        // What it did is what it says.
        Answer::Complete(tag) if query.is_transaction_control() => {
            if tag == "ROLLBACK" && is_commit(&query.sql) {
                line += &colours.red("  => ROLLBACK");
            }
        }
        Answer::Complete(tag) => {
            let separator = if tag.is_empty() { "" } else { ", " };
            let outcome = format!("  => {tag}{separator}{}", milliseconds(query.duration));
            line += &colours.dim(&outcome);
        }
        Answer::Failed { code, message } => {
            let message = on_one_line(message, LONGEST_SQL);
            line += &colours.red(&format!("  => ERROR {}: {message}", code.code()));
        }
    }
    line
}

fn is_commit(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default();
    word.eq_ignore_ascii_case("commit") || word.eq_ignore_ascii_case("end")
}

fn written(parameter: &Parameter) -> String {
    match &parameter.text {
        None => "NULL".to_owned(),
        Some(text) if parameter.is_bare => text.clone(),
        Some(text) => {
            let text = on_one_line(text, LONGEST_PARAMETER);
            format!("'{}'", text.replace('\'', "''"))
        }
    }
}

pub(super) fn on_one_line(text: &str, longest: usize) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(longest) {
        words.truncate(end);
        words.push_str(" ...");
    }
    words
}

/// Statements that belong together.
struct Group<'a> {
    /// The exchange that they ran for, if that is known.
    exchange: Option<&'a Exchange>,
    /// Otherwise, who ran them.
    by: String,
    /// Those that count have numbers.
    queries: Vec<(Option<usize>, &'a Query)>,
}

impl<'a> Group<'a> {
    fn of_exchange(exchange: &'a Exchange) -> Self {
        Self {
            exchange: Some(exchange),
            by: String::new(),
            queries: Vec::new(),
        }
    }

    fn write(&self, text: &mut String, colours: Colours) {
        let heading = match self.exchange {
            None => colours.bold(&self.by),
            Some(exchange) => heading(exchange, colours),
        };
        let _ = writeln!(text, "{heading}");
        let refusal = self.exchange.filter(|exchange| !is_good(exchange));
        if let Some(body) = refusal.and_then(Exchange::body) {
            let _ = writeln!(text, "      {}", on_one_line(body, LONGEST_SQL));
        }
        let first = self.queries.first().map(|(_, query)| query.session);
        let has_several = self
            .queries
            .iter()
            .any(|(_, query)| Some(query.session) != first);
        for (number, query) in &self.queries {
            let number = number.map_or_else(String::new, |number| number.to_string());
            let session = match has_several {
                true => format!("session {}: ", query.session),
                false => String::new(),
            };
            let _ = writeln!(text, "{number:>4}  {session}{}", line(query, colours));
        }
    }
}

/// Statements under the exchanges that they belong to, in the order of time.
pub(super) fn groups(queries: &Queries, colours: Colours) -> String {
    let mut events: Vec<_> = queries
        .exchanges
        .iter()
        .map(|exchange| (exchange.begun, Event::Exchange(exchange)))
        .chain(
            queries
                .list
                .iter()
                .map(|query| (query.sent, Event::Query(query))),
        )
        .collect();
    events.sort_by_key(|(time, _)| *time);

    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut count = 0;
    for (_, event) in events {
        let query = match event {
            Event::Exchange(exchange) => {
                groups.push(Group::of_exchange(exchange));
                continue;
            }
            Event::Query(query) => query,
        };
        let number = query.counts().then(|| {
            count += 1;
            count
        });
        let of_exchange = query.exchange().and_then(|exchange| {
            groups.iter_mut().rfind(|group| {
                group
                    .exchange
                    .is_some_and(|known| known.number == exchange.number)
            })
        });
        if let Some(group) = of_exchange {
            group.queries.push((number, query));
            continue;
        }
        let by = by(query);
        match groups.last_mut() {
            Some(group) if group.by == by => group.queries.push((number, query)),
            _ => groups.push(Group {
                exchange: None,
                by,
                queries: vec![(number, query)],
            }),
        }
    }

    let mut text = String::new();
    if queries.dropped > 0 {
        let _ = writeln!(text, "(the first {} are left out)", queries.dropped);
    }
    for group in &groups {
        if !text.is_empty() {
            text.push('\n');
        }
        group.write(&mut text, colours);
    }
    text
}

enum Event<'a> {
    Exchange(&'a Exchange),
    Query(&'a Query),
}

fn heading(exchange: &Exchange, colours: Colours) -> String {
    let outcome = exchange.outcome();
    let outcome = match is_good(exchange) {
        true => outcome,
        false => colours.red(&outcome),
    };
    let duration = exchange.duration().map_or_else(String::new, |duration| {
        colours.dim(&format!(", {}", milliseconds(duration)))
    });
    format!(
        "{} => {outcome}{duration}",
        colours.bold(&exchange.to_string())
    )
}

fn is_good(exchange: &Exchange) -> bool {
    exchange
        .status()
        .is_some_and(|status| !status.is_client_error() && !status.is_server_error())
}

/// Who ran a statement for which no exchange is known.
fn by(query: &Query) -> String {
    match (query.origin, &query.exchanges[..]) {
        (Origin::Test | Origin::Own, _) => "the test".to_owned(),
        (Origin::Socket, _) => "a client on the socket".to_owned(),
        (Origin::Server, [exchange]) => exchange.to_string(),
        (Origin::Server, []) => "the application, outside of an HTTP request".to_owned(),
        (Origin::Server, several) => {
            let names: Vec<_> = several.iter().map(ToString::to_string).collect();
            format!("the application, for one of {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use actix_web::http::Method;
    use tokio_postgres::error::SqlState;

    use super::*;
    use crate::exchange::Exchanges;
    use crate::queries::Kind;

    fn query(sql: &str, answer: Answer) -> Query {
        Query {
            sql: sql.to_owned(),
            parameters: Vec::new(),
            answer,
            sent: Instant::now(),
            duration: Duration::from_micros(1234),
            session: 1,
            origin: Origin::Test,
            block: None,
            exchanges: Vec::new(),
            kind: match sql {
                "COMMIT" => Kind::Control,
                _ => Kind::Statement,
            },
            is_alone: true,
            ends_block: false,
            is_of_next: false,
        }
    }

    #[test]
    fn what_went_wrong_is_red_and_the_rest_is_dim() {
        let complete = |tag: &str| Answer::Complete(tag.to_owned());
        let failed = Answer::Failed {
            code: SqlState::DIVISION_BY_ZERO,
            message: "division by zero".to_owned(),
        };
        let lines = [
            query("SELECT 1", complete("SELECT 1")),
            query("SELECT 1 / 0", failed),
            query("SELECT pg_sleep(9)", Answer::None),
            query("COMMIT", complete("COMMIT")),
            query("COMMIT", complete("ROLLBACK")),
        ];
        let expected = [
            "SELECT 1\x1b[2m  => SELECT 1, 1.2 ms\x1b[0m",
            "SELECT 1 / 0\x1b[31m  => ERROR 22012: division by zero\x1b[0m",
            "SELECT pg_sleep(9)\x1b[31m  => no answer yet\x1b[0m",
            "COMMIT",
            "COMMIT\x1b[31m  => ROLLBACK\x1b[0m",
        ];
        assert_eq!(lines.map(|query| line(&query, Colours::Ansi)), expected);
    }

    #[test]
    fn a_request_is_bold_and_red_where_it_failed() {
        let exchanges = Exchanges::default();
        let _awaited = exchanges.begin(Method::GET, "/todos".to_owned());
        assert_eq!(
            heading(&exchanges.all()[0], Colours::Ansi),
            "\x1b[1mGET /todos\x1b[0m => \x1b[31mno response yet\x1b[0m"
        );
    }
}
