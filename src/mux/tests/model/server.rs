//! A server as far as the multiplexer can tell: transactions, savepoints, prepared statements, COPY, and what is skipped
//! after an error. It knows one table, in which a session writes down what it did, once for each time it was done.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};

use crate::mux::message::to_session::{self, Report};
use crate::mux::message::{Message, frontend};

/// Names a session in the table, and what it did.
pub(super) type Row = (usize, u32);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Transaction {
    #[default]
    None,
    /// That of one statement, or of a batch up to its Sync.
    Started,
    /// That of a Query with several statements.
    ImplicitBlock,
    Block,
    Failed,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) rows: Vec<Row>,
    transaction: Transaction,
    /// How many rows there were when the transaction began, and when each savepoint was set.
    begun: usize,
    savepoints: Vec<(String, usize)>,
    statements: BTreeMap<Bytes, Statement>,
    portals: BTreeMap<Bytes, Statement>,
    /// What a Query has still to run.
    script: VecDeque<Statement>,
    several: bool,
    /// A COPY reads, on behalf of a Query or not, and has read so many rows.
    copying: Option<(bool, usize)>,
    is_skipping: bool,
    unsent: BytesMut,
    /// What the client can read.
    pub(super) sent: BytesMut,
}

#[derive(Clone, Debug, PartialEq)]
enum Statement {
    Empty,
    Insert(Row),
    List(usize),
    Divide,
    Copy,
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Several,
    Nonsense,
}

impl Statement {
    fn of(sql: &str) -> Self {
        let sql = sql.trim();
        let numbers: Vec<u32> = sql
            .split(|char: char| !char.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let words: Vec<&str> = sql.split_whitespace().collect();
        match (&words[..], &numbers[..]) {
            ([], _) => Self::Empty,
            // A text is parsed whole before its statements are counted.
            _ if sql.contains(';') => {
                match sql.split(';').any(|sql| Self::of(sql) == Self::Nonsense) {
                    true => Self::Nonsense,
                    false => Self::Several,
                }
            }
            (["INSERT", ..], [session, number]) => Self::Insert((*session as usize, *number)),
            (["SELECT", "number", ..], [session]) => Self::List(*session as usize),
            (["SELECT", "1/0"], _) => Self::Divide,
            (["COPY", ..], _) => Self::Copy,
            (["BEGIN"], _) => Self::Begin,
            (["COMMIT"], _) => Self::Commit,
            (["ROLLBACK"], _) => Self::Rollback,
            (["SAVEPOINT", name], _) => Self::Savepoint((*name).to_owned()),
            (["RELEASE", "SAVEPOINT", name], _) => Self::Release((*name).to_owned()),
            (["ROLLBACK", "TO", "SAVEPOINT", name], _) => Self::RollbackTo((*name).to_owned()),
            (["SET", "CONSTRAINTS", ..], _) => Self::Empty,
            _ => Self::Nonsense,
        }
    }

    /// What may run in a failed transaction.
    fn is_exit(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::Commit | Self::Rollback | Self::RollbackTo(_)
        )
    }
}

type Outcome = Result<String, Report>;

fn error<T>(code: &'static str, text: impl Into<String>) -> Result<T, Report> {
    Err(Report::error(code, text))
}

impl Server {
    pub(super) fn is_outside(&self) -> bool {
        self.transaction == Transaction::None
    }

    pub(super) fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// The client has gone.
    pub(super) fn hang_up(&mut self) {
        self.abort();
    }

    pub(super) fn receive(&mut self, message: &Message) {
        let tag = message.tag();
        if let Some((in_query, count)) = self.copying {
            return self.receive_copy(message, in_query, count);
        }
        if tag == frontend::SYNC {
            self.is_skipping = false;
            if self.transaction == Transaction::Started {
                self.end(true);
            }
            return self.ready();
        }
        if self.is_skipping {
            return;
        }
        let mut fields = message.fields();
        let mut string = || fields.string().expect("a well-formed message");
        let outcome = match tag {
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => Ok(()),
            frontend::FLUSH => {
                self.flush();
                Ok(())
            }
            frontend::QUERY => return self.query(&text(&string())),
            frontend::PARSE => {
                let (name, sql) = (string(), string());
                self.parse(name, &text(&sql))
            }
            frontend::BIND => {
                let (portal, statement) = (string(), string());
                self.bind(portal, &statement)
            }
            frontend::EXECUTE => {
                let portal = string();
                self.execute(&portal)
            }
            frontend::DESCRIBE => self.describe(&message.body()),
            frontend::CLOSE => {
                self.start();
                let body = message.body();
                let name = body.slice(1..body.len() - 1);
                match body[0] {
                    b'S' => self.statements.remove(&name),
                    _ => self.portals.remove(&name),
                };
                self.put(b'3', b"");
                Ok(())
            }
            _ => panic!("the multiplexer sent {message:?}"),
        };
        if let Err(report) = outcome {
            self.fail(&report);
            self.is_skipping = true;
        }
    }

    fn receive_copy(&mut self, message: &Message, in_query: bool, count: usize) {
        let outcome = match message.tag() {
            frontend::COPY_DATA => {
                let data = text(&message.body());
                let numbers: Vec<u32> = data
                    .split_whitespace()
                    .map(|word| word.parse().expect("a number"))
                    .collect();
                self.rows.push((numbers[0] as usize, numbers[1]));
                self.copying = Some((in_query, count + 1));
                return;
            }
            frontend::SYNC | frontend::FLUSH => return,
            frontend::COPY_DONE => Ok(format!("COPY {count}")),
            frontend::COPY_FAIL => {
                let reason = message.fields().string().unwrap_or_default();
                error(
                    "57014",
                    format!("COPY from stdin failed: {}", text(&reason)),
                )
            }
            _ => panic!("amid a COPY the multiplexer sent {message:?}"),
        };
        self.copying = None;
        match outcome {
            Ok(tag) => {
                self.complete(&tag);
                if in_query {
                    self.run_script();
                }
            }
            Err(report) => {
                self.fail(&report);
                if in_query {
                    self.ready();
                } else {
                    self.is_skipping = true;
                }
            }
        }
    }

    fn query(&mut self, sql: &str) {
        self.statements.remove(&Bytes::new());
        self.script = sql
            .split(';')
            .map(Statement::of)
            .filter(|statement| *statement != Statement::Empty)
            .collect();
        self.several = self.script.len() > 1;
        self.start();
        if self.script.contains(&Statement::Nonsense) {
            self.fail(&Report::error("42601", "syntax error"));
            return self.ready();
        }
        if self.script.is_empty() {
            self.put(b'I', b"");
        } else {
            self.portals.remove(&Bytes::new());
        }
        self.run_script();
    }

    fn run_script(&mut self) {
        while let Some(statement) = self.script.pop_front() {
            self.start();
            if self.several && self.transaction == Transaction::Started {
                self.transaction = Transaction::ImplicitBlock;
            }
            if let Statement::List(_) = statement
                && self.transaction != Transaction::Failed
            {
                self.describe_row();
            }
            match self.run(&statement) {
                Ok(_) if statement == Statement::Copy => {
                    self.copying = Some((true, 0));
                    return self.ask_for_data();
                }
                Ok(tag) => self.complete(&tag),
                Err(report) => {
                    self.fail(&report);
                    self.script.clear();
                }
            }
        }
        if matches!(
            self.transaction,
            Transaction::Started | Transaction::ImplicitBlock
        ) {
            self.end(true);
        }
        self.ready();
    }

    fn parse(&mut self, name: Bytes, sql: &str) -> Result<(), Report> {
        self.start();
        if name.is_empty() {
            self.statements.remove(&name);
        }
        let statement = Statement::of(sql);
        match statement {
            Statement::Nonsense => return error("42601", "syntax error"),
            Statement::Several => {
                self.report(
                    b'E',
                    &Report::error(
                        "42601",
                        "cannot insert multiple commands into a prepared statement",
                    ),
                    Some("exec_parse_message"),
                );
                return Err(Report::default());
            }
            _ => {}
        }
        self.refuse_if_failed(&statement)?;
        if self.statements.contains_key(&name) {
            let text = format!("prepared statement \"{}\" already exists", text(&name));
            return error("42P05", text);
        }
        self.statements.insert(name, statement);
        self.put(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, portal: Bytes, name: &Bytes) -> Result<(), Report> {
        self.start();
        let statement = self.statement(name)?;
        self.refuse_if_failed(&statement)?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return error(
                "42P03",
                format!("cursor \"{}\" already exists", text(&portal)),
            );
        }
        self.portals.insert(portal, statement);
        self.put(b'2', b"");
        Ok(())
    }

    fn execute(&mut self, portal: &Bytes) -> Result<(), Report> {
        self.start();
        let statement = self.portal(portal)?;
        if statement == Statement::Empty {
            self.put(b'I', b"");
            return Ok(());
        }
        let tag = self.run(&statement)?;
        if statement == Statement::Copy {
            self.copying = Some((false, 0));
            self.ask_for_data();
        } else {
            self.complete(&tag);
        }
        Ok(())
    }

    fn describe(&mut self, body: &Bytes) -> Result<(), Report> {
        self.start();
        let name = body.slice(1..body.len() - 1);
        let statement = match body[0] {
            b'S' => self.statement(&name)?,
            _ => self.portal(&name)?,
        };
        let has_rows = matches!(statement, Statement::List(_) | Statement::Divide);
        if has_rows {
            self.refuse_if_failed(&statement)?;
        }
        if body[0] == b'S' {
            self.put(b't', &[0, 0]);
        }
        if has_rows {
            self.describe_row();
        } else {
            self.put(b'n', b"");
        }
        Ok(())
    }

    fn statement(&self, name: &Bytes) -> Result<Statement, Report> {
        match self.statements.get(name) {
            Some(statement) => Ok(statement.clone()),
            None if name.is_empty() => error("26000", "unnamed prepared statement does not exist"),
            None => error(
                "26000",
                format!("prepared statement \"{}\" does not exist", text(name)),
            ),
        }
    }

    fn portal(&self, name: &Bytes) -> Result<Statement, Report> {
        match self.portals.get(name) {
            Some(statement) => Ok(statement.clone()),
            None => error("34000", format!("portal \"{}\" does not exist", text(name))),
        }
    }

    fn refuse_if_failed(&self, statement: &Statement) -> Result<(), Report> {
        if self.transaction == Transaction::Failed && !statement.is_exit() {
            let text =
                "current transaction is aborted, commands ignored until end of transaction block";
            return error("25P02", text);
        }
        Ok(())
    }

    fn run(&mut self, statement: &Statement) -> Outcome {
        self.refuse_if_failed(statement)?;
        let tag = match statement {
            Statement::Insert(row) => {
                self.rows.push(*row);
                "INSERT 0 1"
            }
            Statement::List(session) => {
                let rows = self.rows.iter().filter(|(whose, _)| whose == session);
                let list: Vec<_> = rows.map(|(_, number)| number.to_string()).collect();
                self.put(b'D', format!("{}\0", list.join(",")).as_bytes());
                "SELECT 1"
            }
            Statement::Divide => return error("22012", "division by zero"),
            Statement::Copy | Statement::Empty => "",
            Statement::Begin => {
                match self.transaction {
                    Transaction::Block => {
                        self.warn("25001", "there is already a transaction in progress");
                    }
                    _ => self.transaction = Transaction::Block,
                }
                "BEGIN"
            }
            Statement::Commit => {
                let failed = self.transaction == Transaction::Failed;
                self.warn_outside();
                self.end(!failed);
                if failed { "ROLLBACK" } else { "COMMIT" }
            }
            Statement::Rollback => {
                self.warn_outside();
                self.end(false);
                "ROLLBACK"
            }
            Statement::Savepoint(name) => {
                self.needs_block("SAVEPOINT")?;
                self.savepoints.push((name.clone(), self.rows.len()));
                "SAVEPOINT"
            }
            Statement::Release(name) => {
                self.needs_block("RELEASE SAVEPOINT")?;
                let position = self.savepoint(name)?;
                self.savepoints.truncate(position);
                "RELEASE"
            }
            Statement::RollbackTo(name) => {
                self.needs_block("ROLLBACK TO SAVEPOINT")?;
                let position = self.savepoint(name)?;
                self.rows.truncate(self.savepoints[position].1);
                self.savepoints.truncate(position + 1);
                self.transaction = Transaction::Block;
                "ROLLBACK"
            }
            Statement::Several | Statement::Nonsense => unreachable!("it can't be parsed"),
        };
        Ok(tag.to_owned())
    }

    fn needs_block(&self, command: &str) -> Result<(), Report> {
        match self.transaction {
            Transaction::Block | Transaction::Failed => Ok(()),
            _ => error(
                "25P01",
                format!("{command} can only be used in transaction blocks"),
            ),
        }
    }

    fn savepoint(&self, name: &str) -> Result<usize, Report> {
        let position = self.savepoints.iter().rposition(|(known, _)| known == name);
        match position {
            Some(position) => Ok(position),
            None => error("3B001", format!("savepoint \"{name}\" does not exist")),
        }
    }

    fn start(&mut self) {
        if self.transaction == Transaction::None {
            self.transaction = Transaction::Started;
            self.begun = self.rows.len();
        }
    }

    fn end(&mut self, keeps: bool) {
        if !keeps && self.transaction != Transaction::None {
            self.rows.truncate(self.begun);
        }
        self.transaction = Transaction::None;
        self.savepoints.clear();
        self.portals.clear();
    }

    fn abort(&mut self) {
        self.end(false);
    }

    fn fail(&mut self, report: &Report) {
        if !report.code.is_empty() {
            self.report(b'E', report, None);
        }
        match self.transaction {
            // What failed is undone at once, up to the last savepoint.
            Transaction::Block | Transaction::Failed => {
                let kept = self.savepoints.last().map_or(self.begun, |(_, rows)| *rows);
                self.rows.truncate(kept);
                self.transaction = Transaction::Failed;
            }
            _ => self.abort(),
        }
        self.script.clear();
    }

    fn warn_outside(&mut self) {
        if matches!(
            self.transaction,
            Transaction::Started | Transaction::ImplicitBlock
        ) {
            self.warn("25P01", "there is no transaction in progress");
        }
    }

    fn warn(&mut self, code: &'static str, text: &str) {
        self.report(b'N', &Report::warning(code, text), None);
    }

    fn report(&mut self, tag: u8, report: &Report, routine: Option<&str>) {
        let mut body = BytesMut::new();
        let fields = [
            (b'S', report.severity),
            (b'V', report.severity),
            (b'C', report.code),
            (b'M', &report.message),
            (b'R', routine.unwrap_or("model")),
        ];
        for (code, value) in fields {
            body.put_u8(code);
            body.put_slice(value.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        self.put(tag, &body);
        self.flush();
    }

    fn describe_row(&mut self) {
        self.put(b'T', b"numbers\0");
    }

    fn ask_for_data(&mut self) {
        self.put(b'G', &[0, 0, 0]);
        self.flush();
    }

    fn complete(&mut self, tag: &str) {
        let message = to_session::command_complete(tag);
        self.unsent.put_slice(message.frame());
    }

    fn ready(&mut self) {
        let status = match self.transaction {
            Transaction::Block => b'T',
            Transaction::Failed => b'E',
            _ => b'I',
        };
        self.put(b'Z', &[status]);
        self.flush();
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        let message = Message::build(tag, |frame| frame.put_slice(body));
        self.unsent.put_slice(message.frame());
    }

    fn flush(&mut self) {
        let bytes = self.unsent.split();
        self.sent.put_slice(&bytes);
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
