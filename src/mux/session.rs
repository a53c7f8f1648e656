//! One virtual session: what its client has sent, and the names that it has given.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::block::{self, Block, Executed, Standing};
use super::command::{Command, Discard};
use super::garbage::Garbage;
use super::held::Held;
use super::message::to_session::Report;
use super::message::{Message, frontend, to_session};
use super::modes;
use super::notify::Mailbox;
use super::on_commit::Table;
use super::parameters::{self, Parameters};
use super::reads;
use super::redirect;
use super::rewrite::Shifts;
use super::settings::{self, Change, Settings};
use super::value::Name;

/// Names one virtual session for the life of a shared transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u32);

impl SessionId {
    /// The process id that the session's client is told.
    pub(super) fn process_id(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The StartupMessage has not come yet.
    Startup,
    /// Between batches.
    Ready,
    /// A whole batch waits for the lease.
    Waiting { since: Instant },
    /// The batch is under way.
    Running,
    /// A refused batch is read and dropped up to its Sync.
    Skipping,
    /// The session was told why, and is over.
    Over,
}

/// A prepared statement as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) command: Command,
    pub(super) sql: Bytes,
    /// What running it means for the standing savepoint.
    pub(super) executed: Executed,
    /// It reads or writes.
    pub(super) queries: bool,
    /// Of a text that was rewritten before it was sent.
    pub(super) shifts: Shifts,
    /// The types of its parameters, and, of a portal, their values, as they came.
    pub(super) types: Bytes,
    pub(super) values: Bytes,
    /// What running it does to settings.
    pub(super) changes: Vec<Change>,
    /// Of a portal of a control statement, which the backend doesn't run: it was run here.
    pub(super) spent: bool,
}

impl Prepared {
    pub(super) fn new(command: Command, sql: Bytes, scs: bool) -> Self {
        Self {
            executed: executed_by(&command, &sql, scs),
            changes: settings::changes(&command, &sql, scs),
            queries: modes::takes_snapshot(&command, &sql, scs),
            command,
            sql,
            shifts: Shifts::default(),
            types: Bytes::new(),
            values: Bytes::new(),
            spent: false,
        }
    }

    /// It can be run again if it turns out that it has not been run.
    pub(super) fn is_plain(&self) -> bool {
        self.command == Command::Other && self.executed <= Executed::Plain
    }
}

/// One virtual session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Stands before the names of its statements on the backend.
    name_prefix: Bytes,
    pub(super) phase: Phase,
    pub(super) block: Block,
    /// Whole messages that have not been dealt with.
    inbox: VecDeque<Message>,
    /// How many of them end a batch or ask for its answers.
    boundaries: usize,
    pub(super) statements: BTreeMap<Bytes, Prepared>,
    /// What each live portal runs.
    pub(super) portals: BTreeMap<Bytes, Prepared>,
    pub(super) mailbox: Mailbox,
    /// Its cursors that outlive their transaction.
    pub(super) held: Held,
    /// Its temporary tables that each commit empties.
    pub(super) tables: Vec<Table>,
    /// Bytes for the client.
    pub(super) outbox: BytesMut,
    /// The client has gone; what it sent whole is still done.
    pub(super) gone: bool,
    /// It has not really gone, but nothing that it sends is read any more. This is what it is told last.
    pub(super) farewell: Option<Report>,
    /// The process id and the secret key with which the client may cancel what it runs.
    pub(super) key: Option<(i32, Bytes)>,
    /// What the client was told of its settings, now and before its transaction began.
    told: Parameters,
    told_before: Parameters,
    /// In the batch under way, a transaction has ended behind which nothing has run: says whether it was undone.
    taken_back: Option<bool>,
    /// What the client calls itself.
    pub(super) application_name: String,
    /// The statement that opened the block, and the last one that was sent.
    pub(super) begin_sql: Bytes,
    pub(super) last_sql: Bytes,
    pub(super) begun: Option<Instant>,
}

impl Session {
    pub(super) fn new(id: SessionId, defaults: Parameters) -> Self {
        Self {
            id,
            name_prefix: format!("{NAME_MARK}{}{NAME_MARK}", id.0).into(),
            phase: Phase::Startup,
            block: Block::None,
            inbox: VecDeque::new(),
            boundaries: 0,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            mailbox: Mailbox::default(),
            held: Held::default(),
            tables: Vec::new(),
            outbox: BytesMut::new(),
            gone: false,
            farewell: None,
            key: None,
            told: defaults.clone(),
            told_before: defaults,
            taken_back: None,
            application_name: String::new(),
            begin_sql: Bytes::new(),
            last_sql: Bytes::new(),
            begun: None,
        }
    }

    /// Its settings aren't those of the others when it starts.
    pub(super) fn start_with(&mut self, parameters: Parameters) {
        self.told_before = parameters.clone();
        self.told = parameters;
    }

    pub(super) fn push(&mut self, message: Message) {
        self.boundaries += usize::from(is_boundary(&message));
        self.inbox.push_back(message);
    }

    /// Puts back what was popped last.
    pub(super) fn take_back(&mut self, messages: Vec<Message>) {
        for message in messages.into_iter().rev() {
            self.boundaries += usize::from(is_boundary(&message));
            self.inbox.push_front(message);
        }
    }

    pub(super) fn peek(&self) -> Option<&Message> {
        self.inbox.front()
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.inbox.pop_front()?;
        self.boundaries -= usize::from(is_boundary(&message));
        Some(message)
    }

    /// What has come and has not been dealt with, in order.
    pub(super) fn inbox(&self) -> impl Iterator<Item = &Message> {
        self.inbox.iter()
    }

    pub(super) fn clear_inbox(&mut self) {
        self.inbox.clear();
        self.boundaries = 0;
    }

    /// The client has sent something that it awaits an answer to.
    pub(super) fn has_request(&self) -> bool {
        self.boundaries > 0
    }

    /// The whole messages up to the first that ends a batch.
    pub(super) fn batch(&self) -> impl Iterator<Item = &Message> {
        let end = self.inbox.iter().position(is_boundary);
        self.inbox.iter().take(end.map_or(0, |end| end + 1))
    }

    pub(super) fn send(&mut self, message: &Message) {
        if !self.gone || self.farewell.is_some() {
            self.outbox.put_slice(message.frame());
        }
    }

    /// Tells a client that doesn't keep to the protocol the last that it hears.
    pub(super) fn part(&mut self) {
        if let Some(report) = &self.farewell {
            self.send(&report.message());
            self.farewell = None;
        }
    }

    /// ReadyForQuery, and before it what was notified during the transaction that is over.
    pub(super) fn send_ready(&mut self, status: u8) {
        if status == b'I' {
            for notification in self.mailbox.take_undelivered() {
                self.send(&notification);
            }
        }
        self.send(&to_session::ready_for_query(status));
    }

    /// Another session has notified: says whether the client is told at once, which it isn't in a transaction.
    pub(super) fn hear(&mut self, channel: &[u8], notification: &Message) -> bool {
        if !self.mailbox.listens_to(channel) || self.gone || self.phase == Phase::Over {
            return false;
        }
        let at_once = self.phase == Phase::Ready && self.block == Block::None;
        match at_once {
            true => self.send(notification),
            false => self.mailbox.keep(channel, notification.clone()),
        }
        at_once
    }

    /// A statement has succeeded that counts until the transaction ends.
    pub(super) fn note(&mut self, command: &Command) {
        self.mailbox.note(command);
        self.held.note(command);
    }

    pub(super) fn tell(&mut self, answer: Result<block::Done, Report>) {
        match answer {
            Ok(done) => {
                if let Some(warning) = done.warning {
                    self.send(&warning.message());
                }
                self.send(&to_session::command_complete(done.tag));
            }
            Err(report) => self.send(&report.message()),
        }
    }

    /// Tells the client which of its settings have changed, as the backend has just reported them. That doesn't know yet
    /// which transactions are over.
    pub(super) fn tell_settings(&mut self, reported: &Parameters, settings: &Settings) {
        let taken_back = self.taken_back.take();
        if self.told.is_copy_of(reported) {
            return;
        }
        let before = self.told_before.clone();
        let mut told = reported.clone();
        for (name, value) in reported.iter() {
            let over = taken_back.and_then(|is_undone| over(&before, settings, name, is_undone));
            if let Some(value) = over {
                told.set(name, value);
            }
            let value = over.unwrap_or(value);
            // It is what the client called itself, until the client says otherwise.
            if name == "application_name" {
                if !settings.has_set(self.id, name) || self.application_name == value {
                    continue;
                }
                value.clone_into(&mut self.application_name);
            } else if self.told.get(name) == Some(value) {
                continue;
            }
            self.send(&to_session::parameter_status(name, value));
        }
        self.told = told;
    }

    /// What running a statement does to settings, also if it is an EXECUTE of another.
    pub(super) fn changes_by(&self, prepared: &Prepared) -> Vec<Change> {
        match &prepared.command {
            Command::Execute(name) => self.changes_by_execute(name),
            _ => prepared.changes.clone(),
        }
    }

    pub(super) fn changes_by_execute(&self, name: &Name) -> Vec<Change> {
        let named = self.statements.get(name.as_bytes());
        named.map_or_else(Vec::new, |named| named.changes.clone())
    }

    /// Its transaction begins.
    pub(super) fn note_settings(&mut self) {
        self.told_before = self.told.clone();
        self.taken_back = None;
    }

    /// Something runs, before which the backend hears what has become of the last transaction.
    pub(super) fn note_start(&mut self) {
        self.taken_back = None;
    }

    /// Its transaction is over, so that what it has set LOCAL, or all that it has set, isn't in force any more.
    pub(super) fn take_back_settings(&mut self, settings: &Settings, is_undone: bool) {
        self.taken_back = Some(is_undone);
        if self.told.is_copy_of(&self.told_before) {
            return;
        }
        let mut told = self.told.clone();
        let before = self.told_before.clone();
        for (name, _) in before.iter() {
            if let Some(value) = over(&before, settings, name, is_undone)
                && self.told.get(name) != Some(value)
            {
                self.send(&to_session::parameter_status(name, value));
                told.set(name, value);
            }
        }
        self.told = told;
    }

    /// What its client was told of its settings.
    pub(super) fn told(&self) -> &Parameters {
        &self.told
    }

    /// The same where the backend reports this and the client isn't told yet.
    pub(super) fn default_transaction_read_only_behind(
        &self,
        reported: &Parameters,
        settings: &Settings,
        is_undone: bool,
    ) -> bool {
        let name = parameters::DEFAULT_TRANSACTION_READ_ONLY;
        let value = over(&self.told_before, settings, name, is_undone);
        value.or_else(|| reported.get(name)) == Some("on")
    }

    /// Whether its transactions are to be read-only by themselves.
    pub(super) fn default_transaction_read_only(&self) -> bool {
        self.told.default_transaction_read_only()
    }

    /// Whether a backslash is an ordinary character in the client's plain strings.
    pub(super) fn standard_conforming_strings(&self) -> bool {
        self.told.standard_conforming_strings()
    }

    /// The server's major release, if it has told that.
    pub(super) fn release(&self) -> Option<u32> {
        self.told.release()
    }

    /// Remembers which statement opened the block, for those who wait for its end.
    pub(super) fn note_block(&mut self, command: &Command, standing: &Standing, now: Instant) {
        if matches!(command, Command::Begin { .. }) && standing.is_open() {
            self.begin_sql = self.last_sql.clone();
            self.begun = Some(now);
        }
    }

    /// "a simple Query message also destroys the unnamed statement".
    pub(super) fn forget_unnamed(&mut self, garbage: &mut Garbage) {
        if self.statements.remove(&b""[..]).is_some() {
            garbage.close_statement(&self.statement_name(b""));
        }
    }

    pub(super) fn forget_statements(&mut self, garbage: &mut Garbage) {
        for name in std::mem::take(&mut self.statements).into_keys() {
            garbage.close_statement(&self.statement_name(&name));
        }
    }

    /// Portals end with their transaction, which the backend doesn't know to be over.
    pub(super) fn forget_portals(&mut self, garbage: &mut Garbage) {
        while let Some((name, _)) = self.portals.pop_first() {
            if !name.is_empty() {
                garbage.close_portal(&self.portal_name(&name));
            }
        }
    }

    /// A statement that is answered here has taken effect.
    pub(super) fn took_effect(&mut self, command: &Command, garbage: &mut Garbage) {
        match command {
            Command::DeallocateAll => self.forget_statements(garbage),
            Command::CloseAll => self.close_all(garbage),
            Command::Discard(Discard::All) => {
                self.forget_statements(garbage);
                self.close_all(garbage);
            }
            command if command.ends_block() => self.forget_portals(garbage),
            _ => {}
        }
    }

    /// Portals and cursors, also those that outlive their transaction.
    pub(super) fn close_all(&mut self, garbage: &mut Garbage) {
        self.forget_portals(garbage);
        self.close_held(garbage);
    }

    /// The name under which a statement is looked for that this session doesn't have. The backend must not have one of that
    /// name either, of the multiplexer's own or of another session's.
    pub(super) fn unknown_name(&self, name: &Bytes) -> Bytes {
        match is_marked(name) {
            true => self.statement_name(name),
            false => name.clone(),
        }
    }

    /// The name under which the backend knows a statement of this session. PostgreSQL keeps 63 bytes of a name, so a
    /// long one is replaced by its hash.
    pub(super) fn statement_name(&self, name: &[u8]) -> Bytes {
        let mut full = BytesMut::with_capacity(32 + name.len());
        full.put_slice(&self.name_prefix);
        if full.len() + name.len() < 64 {
            full.put_slice(name);
        } else {
            let mut hasher = DefaultHasher::new();
            name.get(..63).unwrap_or(name).hash(&mut hasher);
            full.put_slice(format!("#{:016x}", hasher.finish()).as_bytes());
        }
        full.freeze()
    }
}

/// The value of a setting behind a transaction that is over, if it isn't the one that the backend still has.
fn over<'a>(
    before: &'a Parameters,
    settings: &'a Settings,
    name: &str,
    is_undone: bool,
) -> Option<&'a str> {
    match is_undone {
        // It is what the client called itself.
        _ if name == "application_name" => None,
        true => before.get(name),
        false => settings.hidden(name)?.or_else(|| before.get(name)),
    }
}

/// What running a statement means for the standing savepoint.
pub(super) fn executed_by(command: &Command, statement: &[u8], scs: bool) -> Executed {
    match command {
        Command::Other if reads::only_reads(statement, scs) => Executed::Reads,
        // A transaction can be made READ ONLY in this way, too, which ends with its subtransaction.
        Command::Other | Command::PgNotify { .. } if !settings::mentions_set_config(statement) => {
            Executed::Plain
        }
        _ => Executed::Anything,
    }
}

/// Stands at both ends of what is put before a session's statement names.
pub(super) const NAME_MARK: char = '~';

/// Whether a name of a client's could be taken for one that has been put behind a session's number.
pub(super) fn is_marked(name: &[u8]) -> bool {
    name.first() == Some(&(NAME_MARK as u8))
}

/// Gives the names in an error's text back as the client wrote them.
pub(super) fn restore_names(text: &Bytes) -> Bytes {
    let text = redirect::restore_names(text);
    let mark = NAME_MARK as u8;
    if !text.contains(&mark) {
        return text;
    }
    let mut restored = BytesMut::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some((&byte, tail)) = rest.split_first() {
        restored.put_u8(byte);
        rest = tail;
        if byte != b'"' || rest.first() != Some(&mark) {
            continue;
        }
        let digits = rest[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if rest.get(1 + digits) == Some(&mark) {
            rest = &rest[2 + digits..];
        }
    }
    restored.freeze()
}

fn is_boundary(message: &Message) -> bool {
    matches!(
        message.tag(),
        frontend::QUERY | frontend::FUNCTION_CALL | frontend::SYNC | frontend::FLUSH
    )
}
