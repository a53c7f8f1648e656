//! A server as far as the multiplexer can tell: transactions, savepoints, prepared statements, portals, COPY, deferred
//! constraints, notifications to oneself, messages whose fields don't add up, and what is skipped after an error. It knows
//! one table, in which a session writes down what it did, once for each time it was done.

mod fields;
mod output;
mod portal;
mod statement;
mod transaction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use self::fields::Reader;
use self::portal::Portal;
use self::statement::Statement;
use crate::mux::message::to_session::Report;
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

/// How much there was when something began.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    rows: usize,
    deeds: usize,
}

/// What a transaction does to the others' ears, if it is kept.
#[derive(Clone, Debug, PartialEq)]
enum Deed {
    Listen(String),
    UnlistenAll,
    Notify(String, String),
}

#[derive(Debug, Default)]
pub(super) struct Server {
    process: i32,
    pub(super) rows: Vec<Row>,
    /// Those of them that a deferred constraint forbids.
    violations: BTreeSet<Row>,
    transaction: Transaction,
    begun: Mark,
    savepoints: Vec<(String, Mark)>,
    statements: BTreeMap<Bytes, Statement>,
    portals: BTreeMap<Bytes, Portal>,
    deeds: Vec<Deed>,
    channels: BTreeSet<String>,
    undelivered: Vec<(String, String)>,
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

type Outcome<T = ()> = Result<T, Report>;

fn error<T>(code: &'static str, text: impl Into<String>) -> Outcome<T> {
    Err(Report::error(code, text))
}

impl Server {
    /// One that calls itself so in notifications.
    pub(super) fn of(process: i32) -> Self {
        Self {
            process,
            ..Self::default()
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.transaction == Transaction::None
    }

    pub(super) fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.is_skipping
    }

    /// The client has gone.
    pub(super) fn hang_up(&mut self) {
        self.end(false);
    }

    pub(super) fn receive(&mut self, message: &Message) {
        if let Some((in_query, count)) = self.copying {
            return self.receive_copy(message, in_query, count);
        }
        let tag = message.tag();
        let is_sync = tag == frontend::SYNC;
        if self.is_skipping && !is_sync {
            return;
        }
        self.is_skipping = false;
        let mut fields = Reader::of(message);
        let outcome = match tag {
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => Ok(()),
            frontend::SYNC => self.sync(&mut fields),
            frontend::FLUSH => fields.end().map(|()| self.flush()),
            frontend::QUERY => self.query(&mut fields),
            frontend::PARSE => self.parse(&mut fields),
            frontend::BIND => self.bind(&mut fields),
            frontend::EXECUTE => self.execute(&mut fields),
            frontend::DESCRIBE => self.describe(&mut fields),
            frontend::CLOSE => self.close(&mut fields),
            frontend::FUNCTION_CALL => self.call(&mut fields),
            _ => panic!("the multiplexer sent {message:?}"),
        };
        if let Err(report) = outcome {
            self.fail(&report);
            let is_extended = b"PBEDCH".contains(&tag);
            if is_extended {
                self.is_skipping = true;
            } else {
                self.ready();
            }
        }
    }

    fn receive_copy(&mut self, message: &Message, in_query: bool, count: usize) {
        let outcome = match message.tag() {
            frontend::COPY_DATA => {
                let data = text(&message.body());
                let numbers: Vec<_> = data
                    .split_ascii_whitespace()
                    .map(str::parse::<u32>)
                    .collect();
                match &numbers[..] {
                    [Ok(session), Ok(number)] => {
                        self.rows.push((*session as usize, *number));
                        self.copying = Some((in_query, count + 1));
                        return;
                    }
                    _ => error("22P02", "invalid input syntax"),
                }
            }
            frontend::SYNC | frontend::FLUSH => return,
            frontend::COPY_DONE => Ok(format!("COPY {count}")),
            frontend::COPY_FAIL => Reader::of(message).string().and_then(|reason| {
                let reason = text(&reason);
                error("57014", format!("COPY from stdin failed: {reason}"))
            }),
            _ => panic!("amid a COPY the multiplexer sent {message:?}"),
        };
        self.copying = None;
        let outcome = outcome.and_then(|tag| {
            if in_query {
                self.end_statement(&Statement::Copy, &tag)?;
                return self.run_script();
            }
            self.complete(&tag);
            Ok(())
        });
        if let Err(report) = outcome {
            self.fail(&report);
            if in_query {
                self.ready();
            } else {
                self.is_skipping = true;
            }
        }
    }

    fn sync(&mut self, fields: &mut Reader) -> Outcome {
        fields.end()?;
        if self.transaction == Transaction::Started {
            self.commit()?;
        }
        self.ready();
        Ok(())
    }

    fn query(&mut self, fields: &mut Reader) -> Outcome {
        let sql = text(&fields.string()?);
        fields.end()?;
        self.statements.remove(&Bytes::new());
        self.script = Statement::all(&sql).into();
        self.several = self.script.len() > 1;
        self.start();
        if !self.script.is_empty() {
            self.forget_unrunnable_portal();
        }
        if self.script.contains(&Statement::Nonsense) {
            return error("42601", "syntax error");
        }
        if self.script.is_empty() {
            if self.transaction == Transaction::Started {
                self.commit()?;
            }
            self.put(b'I', b"");
        }
        self.run_script()
    }

    fn run_script(&mut self) -> Outcome {
        while let Some(statement) = self.script.pop_front() {
            self.start();
            if self.several && self.transaction == Transaction::Started {
                self.transaction = Transaction::ImplicitBlock;
            }
            self.refuse_if_failed(&statement)?;
            self.open_portal_of_query(statement.clone());
            if let Statement::List(session) = statement {
                self.describe_row();
                for number in self.numbers(session) {
                    self.row(&number.to_string());
                }
            }
            if matches!(statement, Statement::Notify { selects: true, .. }) {
                self.describe_row();
            }
            let tag = self.run(&statement)?;
            if statement == Statement::Copy {
                self.copying = Some((true, 0));
                self.ask_for_data();
                return Ok(());
            }
            self.end_statement(&statement, &tag)?;
        }
        self.ready();
        Ok(())
    }

    /// A statement of a script is told to have succeeded only when what ends with it has ended well.
    fn end_statement(&mut self, statement: &Statement, tag: &str) -> Outcome {
        self.portals.remove(&Bytes::new());
        let is_implicit = matches!(
            self.transaction,
            Transaction::Started | Transaction::ImplicitBlock
        );
        if self.script.is_empty() && is_implicit {
            self.commit()?;
        }
        match statement {
            Statement::Empty => self.put(b'I', b""),
            _ => self.complete(tag),
        }
        Ok(())
    }

    fn parse(&mut self, fields: &mut Reader) -> Outcome {
        let (name, sql) = (fields.string()?, fields.string()?);
        for _ in 0..fields.short()? {
            fields.int()?;
        }
        fields.end()?;
        self.start();
        if name.is_empty() {
            self.statements.remove(&name);
        }
        let statement = Statement::of(&text(&sql));
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

    fn bind(&mut self, fields: &mut Reader) -> Outcome {
        let (portal, name) = (fields.string()?, fields.string()?);
        let statement = self.statement(&name)?;
        self.start();
        for _ in 0..fields.short()? {
            fields.short()?;
        }
        let count = fields.short()?;
        if count > 0 {
            let text = format!(
                "bind message supplies {count} parameters, but prepared statement \"{}\" requires 0",
                text(&name)
            );
            return error("08P01", text);
        }
        self.refuse_if_failed(&statement)?;
        self.bind_portal(portal, statement)?;
        for _ in 0..fields.short()? {
            fields.short()?;
        }
        fields.end()?;
        self.put(b'2', b"");
        Ok(())
    }

    fn execute(&mut self, fields: &mut Reader) -> Outcome {
        let (name, limit) = (fields.string()?, fields.int()?);
        fields.end()?;
        self.start();
        let portal = self.portal(&name)?;
        let (statement, is_done) = (portal.statement.clone(), portal.is_done);
        if statement == Statement::Empty {
            self.put(b'I', b"");
            return Ok(());
        }
        self.refuse_if_failed(&statement)?;
        if let Statement::List(_) = statement {
            return self.fetch(&name, limit);
        }
        if is_done {
            let text = format!("portal \"{}\" cannot be run", text(&name));
            return error("55000", text);
        }
        let tag = self.run(&statement)?;
        if let Ok(portal) = self.portal(&name) {
            portal.is_done = true;
        }
        if statement == Statement::Copy {
            self.copying = Some((false, 0));
            self.ask_for_data();
        } else {
            self.complete(&tag);
        }
        Ok(())
    }

    fn describe(&mut self, fields: &mut Reader) -> Outcome {
        let (kind, name) = (fields.byte()?, fields.string()?);
        fields.end()?;
        self.start();
        let statement = match kind {
            b'S' => self.statement(&name)?,
            b'P' => self.portal(&name)?.statement.clone(),
            _ => return error("08P01", format!("invalid DESCRIBE message subtype {kind}")),
        };
        if statement.returns_rows() {
            self.refuse_if_failed(&statement)?;
        }
        if kind == b'S' {
            self.put(b't', &[0, 0]);
        }
        if statement.returns_rows() {
            self.describe_row();
        } else {
            self.put(b'n', b"");
        }
        Ok(())
    }

    fn close(&mut self, fields: &mut Reader) -> Outcome {
        let (kind, name) = (fields.byte()?, fields.string()?);
        fields.end()?;
        self.start();
        match kind {
            b'S' => drop(self.statements.remove(&name)),
            b'P' => drop(self.portals.remove(&name)),
            _ => return error("08P01", format!("invalid CLOSE message subtype {kind}")),
        }
        self.put(b'3', b"");
        Ok(())
    }

    /// A FunctionCall: function 1 writes a row down, and function 2 fails.
    fn call(&mut self, fields: &mut Reader) -> Outcome {
        self.start();
        if self.transaction == Transaction::Failed {
            return error("25P02", ABORTED);
        }
        let function = fields.int()?;
        if ![1, 2].contains(&function) {
            let text = format!("function with OID {function} does not exist");
            return error("42883", text);
        }
        for _ in 0..fields.short()? {
            fields.short()?;
        }
        let count = fields.short()?;
        let arguments: Outcome<Vec<_>> = (0..count).map(|_| fields.value()).collect();
        let arguments = arguments?;
        fields.short()?;
        fields.end()?;
        let numbers = arguments.iter().map(|argument| text(argument).parse().ok());
        match &numbers.collect::<Vec<Option<u32>>>()[..] {
            [Some(session), Some(number)] if function == 1 => {
                self.rows.push((*session as usize, *number));
            }
            [] if function == 2 => return error("22012", "division by zero"),
            _ => return error("08P01", "function call message contains wrong arguments"),
        }
        self.put(b'V', b"\xff\xff\xff\xff");
        if self.transaction == Transaction::Started {
            self.commit()?;
        }
        self.ready();
        Ok(())
    }

    fn statement(&self, name: &Bytes) -> Outcome<Statement> {
        match self.statements.get(name) {
            Some(statement) => Ok(statement.clone()),
            None if name.is_empty() => error("26000", "unnamed prepared statement does not exist"),
            None => error(
                "26000",
                format!("prepared statement \"{}\" does not exist", text(name)),
            ),
        }
    }

    fn refuse_if_failed(&self, statement: &Statement) -> Outcome {
        match self.transaction == Transaction::Failed && !statement.is_exit() {
            true => error("25P02", ABORTED),
            false => Ok(()),
        }
    }

    /// What a session has written down, in order.
    fn numbers(&self, session: usize) -> Vec<u32> {
        let rows = self.rows.iter().filter(|(whose, _)| *whose == session);
        rows.map(|(_, number)| *number).collect()
    }

    fn run(&mut self, statement: &Statement) -> Outcome<String> {
        self.refuse_if_failed(statement)?;
        if statement.controls_transactions() {
            return self.control(statement).map(str::to_owned);
        }
        let tag = match statement {
            Statement::Insert(row) => {
                self.rows.push(*row);
                "INSERT 0 1"
            }
            Statement::Violate(row) => {
                self.rows.push(*row);
                self.violations.insert(*row);
                "INSERT 0 1"
            }
            Statement::List(session) => {
                return Ok(format!("SELECT {}", self.numbers(*session).len()));
            }
            Statement::Divide => return error("22012", "division by zero"),
            Statement::Copy | Statement::Empty => "",
            Statement::Listen(channel) => {
                self.deeds.push(Deed::Listen(channel.clone()));
                "LISTEN"
            }
            Statement::UnlistenAll => {
                self.deeds.push(Deed::UnlistenAll);
                "UNLISTEN"
            }
            Statement::Notify {
                channel,
                payload,
                selects,
            } => {
                let deed = Deed::Notify(channel.clone(), payload.clone());
                if !self.deeds.contains(&deed) {
                    self.deeds.push(deed);
                }
                if *selects {
                    self.row("");
                    "SELECT 1"
                } else {
                    "NOTIFY"
                }
            }
            Statement::CheckConstraints => {
                self.check_constraints()?;
                "SET CONSTRAINTS"
            }
            _ => "SET",
        };
        Ok(tag.to_owned())
    }

    fn fail(&mut self, report: &Report) {
        if !report.code.is_empty() {
            self.report(b'E', report, None);
        }
        match self.transaction {
            // What failed is undone at once, up to the last savepoint.
            Transaction::Block | Transaction::Failed => {
                let mark = self.savepoints.last().map_or(self.begun, |(_, mark)| *mark);
                self.undo_to(mark);
                self.transaction = Transaction::Failed;
            }
            _ => self.end(false),
        }
        self.script.clear();
    }
}

const ABORTED: &str =
    "current transaction is aborted, commands ignored until end of transaction block";

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
