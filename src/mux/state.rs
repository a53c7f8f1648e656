//! Who speaks to the backend, and what it is told: the lease, the guard, the routing of replies.
//!
//! Two rules. Rule 1: every decision about the shared transaction is taken here and in [`block`](super::block). Rule 2:
//! no sockets, no tasks, no clocks; time is an argument.
//!
//! This file holds the interface. What happens then is told in the order in which a batch lives: [`sessions`] (it
//! arrives), [`lease`] (it gets its turn), [`follow`] (perhaps before the one ahead is answered), [`pump`] (its messages are
//! taken), [`send`] and [`script`] (they are sent), with what [`inject`] puts around it, [`blockers`] (it waits for a
//! lock), [`cancel`] (it is given up), [`reply`] (it is answered), [`notify`] (others hear of it). [`fault`] is what may
//! happen to it, [`checkpoint`] goes back, [`picture`] shows how things stand.

mod blockers;
mod cancel;
mod checkpoint;
mod fault;
mod follow;
mod inject;
mod lease;
mod notify;
mod picture;
mod pump;
mod reply;
mod script;
mod send;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use self::blockers::Blockers;
use super::belongings::Belongings;
use super::block::Guard;
use super::checkpoint::Checkpoints;
use super::deferral::Deferral;
use super::fault::Faults;
use super::flight::{Flight, Reach};
use super::garbage::Garbage;
use super::initial::Initial;
use super::message::to_session::Report;
use super::message::{Message, ProtocolViolation, backend, frontend, to_session};
use super::on_commit::Tables;
use super::parameters::Parameters;
use super::reads::Reads;
use super::record::Recorder;
use super::session::{Phase, Session, SessionId};
use super::settings::Settings;
use super::{own, report};

/// Bytes that a session's client hasn't read yet, above which the backend isn't read unless somebody else waits.
const OUTBOX_LIMIT: usize = 1 << 20;

/// The same, above which its client is taken for gone when the transaction is to end.
const STALLED: usize = 16 << 20;

/// Bytes to be sent somewhere.
#[derive(Debug, PartialEq)]
pub(crate) enum Transmit {
    Backend(Bytes),
    Session(SessionId, Bytes),
    /// Cancel what runs, over a connection of its own; `handle_cancelled` is to be called when that is over.
    Cancel(Reach),
    /// The session is over: what was sent to it before is its last.
    Close(SessionId),
}

/// Why the shared transaction can't be used any more.
#[derive(Clone, Debug)]
pub(crate) struct Lost(pub(crate) Report);

/// How the transaction stands when all sessions have ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The outer transaction has begun, so that there is something to roll back.
    pub(crate) has_begun: bool,
    /// What rolls back the last session's work, if that was rolled back and the backend doesn't know it yet.
    pub(crate) undo: Option<String>,
    /// The backend was stopped in the middle of something.
    pub(crate) doubtful: bool,
    pub(crate) lost: Option<Lost>,
}

/// Many virtual sessions on one transaction of one backend connection.
///
/// A state machine without I/O. Call `handle_connect`, `handle_frontend`, `handle_backend`, `handle_disconnect`,
/// `handle_cancel` and `handle_timeout` in any order as things happen; after each, call
/// [`poll_transmit`](Self::poll_transmit) until it has nothing more, and [`poll_timeout`](Self::poll_timeout) for when
/// `handle_timeout` is due.
#[derive(Debug)]
pub(crate) struct Mux {
    /// Boxed, as the flights are, because they are taken out to be worked on.
    sessions: BTreeMap<SessionId, Box<Session>>,
    next_session: u32,
    /// Whose turn it is: for a batch, or for a whole block.
    lease: Option<SessionId>,
    /// Who waits for the lease, first come, first served.
    queue: VecDeque<SessionId>,
    /// The batches that the backend works on, in the order in which they were sent. Only the last may still be sent to.
    flights: VecDeque<Box<Flight>>,
    /// A cancel is on its way, so nothing is sent to the backend.
    canceling: bool,
    /// What was run by the last batch that is over.
    ran: Bytes,
    /// What the backend shows is the client's of the flight before, as [`Flight::shows_client`] has it.
    shows_client: bool,
    /// Since when the backend has had nothing to do.
    idle_since: Option<Instant>,
    /// When the backend has said something last, or was given something to do.
    heard: Instant,
    /// When it had before.
    heard_before: Instant,
    /// Who was seen to hold what it waits for.
    blockers: Option<Blockers>,
    /// The standing savepoint, between flights.
    guard: Guard,
    /// Closes that ride along with the next batch.
    garbage: Garbage,
    /// Temporary tables that the commit of the transaction on the backend drops or empties.
    tables: Tables,
    deferral: Deferral,
    reads: Reads,
    denies_levels: bool,
    lease_timeout: Duration,
    settings: Settings,
    belongings: Belongings,
    /// A function may have opened a cursor.
    returns_cursors: bool,
    /// What the server reports of a session that has set nothing.
    defaults: Parameters,
    /// What the server has reported last, whosever settings are in force.
    reported: Parameters,
    /// The test's name.
    name: Option<String>,
    gate_closed: bool,
    /// What runs is waited for, and then all sessions end.
    ends: bool,
    lost: Option<Lost>,
    /// When the last input came.
    now: Instant,
    checkpoints: Checkpoints,
    faults: Faults,
    recorder: Recorder,
    to_backend: BytesMut,
    /// Sessions that have bytes to be sent, or an end to be told.
    dirty: VecDeque<SessionId>,
}

impl Mux {
    /// A multiplexer over a backend that has run [`preparation`](super::own::preparation). The outer transaction begins with
    /// the first batch.
    pub(crate) fn new(
        parameters: Vec<(String, String)>,
        deferral: Deferral,
        lease_timeout: Duration,
        now: Instant,
    ) -> Self {
        let defaults = Parameters::new(parameters);
        Self {
            sessions: BTreeMap::new(),
            next_session: 1,
            lease: None,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            canceling: false,
            ran: Bytes::new(),
            shows_client: false,
            idle_since: None,
            heard: now,
            heard_before: now,
            blockers: None,
            guard: Guard::outside(),
            garbage: Garbage::default(),
            tables: Tables::default(),
            deferral,
            reads: Reads::Doubtful,
            denies_levels: false,
            lease_timeout,
            settings: Settings::default(),
            belongings: Belongings::default(),
            returns_cursors: false,
            reported: defaults.clone(),
            defaults,
            name: None,
            gate_closed: false,
            ends: false,
            lost: None,
            now,
            checkpoints: Checkpoints::default(),
            faults: Faults::default(),
            recorder: Recorder::default(),
            to_backend: BytesMut::new(),
            dirty: VecDeque::new(),
        }
    }

    /// The same, but to ask for an isolation level that isn't exercised is an error.
    pub(crate) fn deny_isolation_levels(mut self, deny: bool) -> Self {
        self.denies_levels = deny;
        self
    }

    /// The same over a database of which this is known.
    pub(crate) fn with_reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// The same for a test with a name, by which the server knows the backend from the first batch on.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.settings.set_for_all("application_name", name);
        self.defaults.set("application_name", name);
        self.name = Some(name.to_owned());
        self
    }

    /// The same over a backend that is in the outer transaction already, as most transcripts have it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn begun(mut self) -> Self {
        self.guard = Guard::default();
        self
    }

    pub(crate) fn handle_connect(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions
            .insert(id, Box::new(Session::new(id, self.defaults.clone())));
        id
    }

    /// A client's StartupMessage has come: it is let in, or told why not. With a secret key, who knows it may cancel what
    /// the session runs. What is initially set, if that isn't as on the backend, is the same object for those that set the
    /// same.
    pub(crate) fn handle_startup(
        &mut self,
        id: SessionId,
        application_name: &str,
        secret_key: Option<Bytes>,
        initial: Option<Arc<Initial>>,
    ) {
        let refusal = self.refusal();
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.application_name = application_name.to_owned();
        if let Some(refusal) = refusal {
            self.end_session(id, &refusal);
            return;
        }
        session.phase = Phase::Ready;
        session.send(&to_session::authentication_ok());
        // A client of the pool's, which goes by the test's name if there is one.
        let is_told_its_name =
            initial.is_none() && self.name.is_none() && !application_name.is_empty();
        let parameters = match initial {
            Some(initial) => {
                let parameters = Parameters::new(initial.parameters.clone());
                session.start_with(parameters.clone());
                self.settings.start(id, initial);
                parameters
            }
            None => self.defaults.clone(),
        };
        for (name, value) in parameters.iter() {
            let value = match name {
                "application_name" if is_told_its_name => application_name,
                _ => value,
            };
            session.send(&to_session::parameter_status(name, value));
        }
        let process_id = id.process_id();
        let shown = secret_key.as_deref().unwrap_or(&[0; 4]);
        session.send(&to_session::backend_key_data(process_id, shown));
        session.key = secret_key.map(|secret_key| (process_id, secret_key));
        session.send(&to_session::ready_for_query(b'I'));
        self.dirty.push_back(id);
    }

    /// A client has sent a message.
    pub(crate) fn handle_frontend(&mut self, id: SessionId, message: Message, now: Instant) {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.gone || session.phase == Phase::Over {
            return;
        }
        if message.tag() == frontend::TERMINATE {
            return self.handle_disconnect(id, now);
        }
        session.push(message);
        self.advance(id);
    }

    /// A client has broken the protocol: its session ends as if it had gone, but for what it is still told. The others
    /// never notice.
    pub(crate) fn handle_violation(
        &mut self,
        id: SessionId,
        violation: &ProtocolViolation,
        now: Instant,
    ) {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.gone) else {
            return;
        };
        session.farewell = Some(Report::fatal("08P01", violation.to_string()));
        session.gone = true;
        self.advance(id);
    }

    /// A client has gone, with or without a Terminate. What it sent whole is finished, its block is rolled back, and the
    /// lease passes on.
    pub(crate) fn handle_disconnect(&mut self, id: SessionId, now: Instant) {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.gone = true;
        session.farewell = None;
        session.outbox.clear();
        self.advance(id);
    }

    /// The backend has sent a message.
    pub(crate) fn handle_backend(
        &mut self,
        message: Message,
        now: Instant,
    ) -> Result<(), ProtocolViolation> {
        self.now = now;
        self.hear();
        match message.tag() {
            backend::PARAMETER_STATUS => self.on_parameter_status(&message),
            // What is said of the standing savepoint is not for the client.
            backend::NOTICE_RESPONSE if self.is_own_reply_next() => {}
            backend::NOTICE_RESPONSE => self.on_notice(&message),
            backend::NOTIFICATION_RESPONSE => {}
            backend::ERROR_RESPONSE => self.on_error(&message)?,
            backend::READY_FOR_QUERY => self.on_ready(&message)?,
            tag => self.on_reply(&message, tag)?,
        }
        Ok(())
    }

    /// The backend's connection has ended.
    pub(crate) fn handle_backend_gone(&mut self, cause: &str) {
        self.lose(report::backend_gone(cause));
    }

    /// Time has passed: who has waited too long for an idle holder is told so.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Some(flight) = self.flights.front_mut() {
            flight.attempts = 0;
        }
        while self.poll_timeout().is_some_and(|due| due <= now) {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            let report = self.lease_report(id);
            self.refuse_batch(id, &report);
            self.advance(id);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Only time in which the backend is idle counts: a holder
    /// whose statement runs is slow, but it isn't stuck.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiter = self.sessions.get(self.queue.front()?)?;
        let Phase::Waiting { since } = waiter.phase else {
            return None;
        };
        Some(self.idle_since?.max(since) + self.lease_timeout)
    }

    /// The next bytes to be sent, if there are any.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        if !self.to_backend.is_empty() && !self.canceling {
            return Some(Transmit::Backend(self.to_backend.split().freeze()));
        }
        if let Some(reach) = self.take_cancel() {
            return Some(Transmit::Cancel(reach));
        }
        while let Some(id) = self.dirty.pop_front() {
            let Some(session) = self.sessions.get_mut(&id) else {
                return Some(Transmit::Close(id));
            };
            if !session.outbox.is_empty() {
                let bytes = session.outbox.split().freeze();
                if session.phase == Phase::Over {
                    self.dirty.push_back(id);
                }
                return Some(Transmit::Session(id, bytes));
            }
            if session.phase == Phase::Over {
                return Some(Transmit::Close(id));
            }
        }
        None
    }

    /// From now on nothing new reaches the backend; what it works on goes on.
    pub(crate) fn close_gate(&mut self, now: Instant) {
        self.now = now;
        self.gate_closed = true;
        let waiting: Vec<_> = self.queue.drain(..).collect();
        for id in waiting {
            self.end_session(id, &report::gate_closed());
        }
        self.settle_session_ends();
    }

    /// It is waited for what runs, and then all sessions end.
    pub(crate) fn await_end(&mut self) {
        self.ends = true;
    }

    /// All sessions end, and the backend is taken away.
    pub(crate) fn handle_end(&mut self) -> Ending {
        self.gate_closed = true;
        let unfinished = std::mem::take(&mut self.flights);
        if let Some(flight) = unfinished.front().filter(|flight| !flight.is_void) {
            self.guard = flight.standing.guard;
        }
        let all: Vec<_> = self.sessions.keys().copied().collect();
        for id in all {
            self.end_session(id, &report::gate_closed());
            self.roll_back(id);
        }
        Ending {
            has_begun: !self.guard.is_outside(),
            undo: (self.guard.is_undone() || !unfinished.is_empty())
                .then(|| own::rollback_to(self.guard.is_nested())),
            doubtful: !unfinished.is_empty() || !self.to_backend.is_empty(),
            lost: self.lost.take(),
        }
    }

    /// The backend works on nothing, and has nothing more to say.
    pub(crate) fn is_idle(&self) -> bool {
        let awaited = self.flights.iter().find(|flight| !flight.awaits_client());
        awaited.is_none() || self.lost.is_some()
    }

    /// Whether the backend owes a reply, so that somebody must read.
    pub(crate) fn awaits_backend(&self) -> bool {
        !self.is_idle()
    }

    /// Whether this session waits for its turn.
    pub(crate) fn is_waiting(&self, id: SessionId) -> bool {
        self.queue.contains(&id)
    }

    /// Whether this session awaits something.
    pub(crate) fn is_busy(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| matches!(session.phase, Phase::Running | Phase::Waiting { .. }))
    }

    /// The sessions that await something, those first that the backend answers first.
    pub(crate) fn busy_sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.flights
            .iter()
            .map(|flight| flight.session)
            .chain(self.queue.iter().copied())
            .filter(|&id| self.is_busy(id))
    }

    /// Whether a batch of this session is under way.
    fn is_in_flight(&self, id: SessionId) -> bool {
        self.flights
            .iter()
            .any(|flight| flight.session == id && !flight.is_void)
    }

    /// All settings that the server reports, for a session that has set nothing.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.defaults.iter().map(owned).collect()
    }

    /// The SQL of the statement that the backend works on.
    pub(crate) fn running_sql(&self) -> Option<String> {
        let flight = self.flights.front()?;
        let session = self.sessions.get(&flight.session)?;
        Some(report::sql(&session.last_sql))
    }

    /// What the clients have run.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// Why nobody is let through, if nobody is.
    fn refusal(&self) -> Option<Report> {
        match &self.lost {
            Some(Lost(report)) => Some(report.clone()),
            None => self.gate_closed.then(report::gate_closed),
        }
    }

    /// Whether the backend should be read: not while its only reader is slow and nobody else waits.
    pub(crate) fn wants_backend(&self, unread: usize) -> bool {
        unread < OUTBOX_LIMIT || self.ends || !self.queue.is_empty() || self.flights.len() > 1
    }

    /// It is waited for what runs, whether or not its readers are slow. One that has left so much unread isn't going to read
    /// the rest: it is given up, and what it runs is cancelled.
    pub(crate) fn handle_unread(&mut self, id: SessionId, unread: usize) {
        if !self.ends || unread < STALLED {
            return;
        }
        self.end_session(id, &report::gate_closed());
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.session == id) {
            flight.cancel = flight.runs();
        }
        self.leave(id);
    }
}
