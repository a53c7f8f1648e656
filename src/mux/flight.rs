//! What the backend still owes: the replies to what was sent, in order.
//!
//! The backend answers strictly first in, first out, and after an error skips everything up to the next Sync. So a queue
//! of steps, one for each message that was sent, tells whose each reply is. Between them stand the steps that have no
//! message of their own: a session's BEGIN or COMMIT that is answered here takes its turn in the same queue, and is
//! skipped by an error before it just as the backend would have skipped it.

mod script;
mod undo;

use std::collections::VecDeque;

use bytes::Bytes;

pub(super) use self::script::{AfterCheck, Effect, Part, Script};
use self::undo::Undo;
pub(super) use self::undo::{Nameable, Named};
use super::block::{Block, Executed, Standing};
use super::checkpoint::Order;
use super::command::{Command, OnCommit};
use super::held::Held;
use super::message::to_session::Report;
use super::message::{Message, backend};
use super::on_commit::Table;
use super::parameters::Parameters;
use super::redirect::Trial;
use super::rewrite::Shifts;
use super::session::{Prepared, Session, SessionId};

/// What must happen next in a flight.
#[derive(Debug)]
pub(super) enum Step {
    /// The backend replies to a message.
    Reply { to: Request, reader: Reader },
    /// The message before gave a name or took one away, which doesn't count if it fails or is skipped.
    Named(Named),
    /// All cursors WITH HOLD were closed, of which there were these; it doesn't count if it is skipped.
    ClosedHeld(Held),
    /// The message before made the backend read a text that was rewritten.
    Rewritten(Shifts),
    /// The message before has run a statement that its session remembers.
    Ran(Command),
    /// The message before has done this.
    Did(Effect),
    /// A checkpoint is set or gone back to.
    Ordered(Order),
    /// The session's transaction begins.
    Start { hands_over: bool, in_mode: bool },
    /// What comes next reads or writes, or has tried to.
    Queries,
    /// The client is told this, and what comes next is not affected.
    Tell(Box<Report>),
    /// A control statement takes effect, and its client is told.
    Control(Command),
    /// What has been answered up to here is all that the client is told, but for a farewell.
    Part,
}

/// The message that is replied to.
#[derive(Debug)]
pub(super) enum Request {
    Parse,
    Bind,
    /// With the statement's name.
    DescribeStatement(Bytes),
    DescribePortal,
    Execute,
    Close,
    /// The Sync that ends a batch, or one of ours.
    Sync,
    Query,
    FunctionCall,
}

/// Who reads a reply.
#[derive(Debug)]
pub(super) enum Reader {
    Client,
    /// Part of a prologue: swallowed. A failure would cost acknowledged work, so it is fatal to all.
    Guard,
    /// Nobody: a Sync that lets the backend listen to a Query although what was sent before it has failed.
    Fence,
    /// Part of the check of deferred constraints: swallowed, but a failure is the client's, and if the check was that of
    /// a COMMIT, it ends the block.
    Check {
        commit: bool,
    },
    /// Part of the trial of a value: swallowed, but a failure is the client's.
    Trial(Trial),
    /// The parsing of a whole script before any of it is run, which fails in either case: on a script that is sound,
    /// because it holds several statements.
    Proof,
    /// Made to fail, so that the backend skips what PostgreSQL would skip; the client gets this error instead.
    Refusal(Message),
    /// The same for a COMMIT, which ends the block.
    FailedCommit(Message),
    /// The same for a block of which the client knows that it has failed: swallowed.
    Failure,
}

/// What a backend message does to the step that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Continues,
    Completes,
    Violates,
}

impl Request {
    /// The replies that the protocol chapter allows, ErrorResponse and the asynchronous messages aside.
    pub(super) fn progress(&self, tag: u8) -> Progress {
        use Progress::{Completes, Continues, Violates};
        match (self, tag) {
            (Self::Parse, backend::PARSE_COMPLETE)
            | (Self::Bind, backend::BIND_COMPLETE)
            | (Self::Close, backend::CLOSE_COMPLETE)
            | (
                Self::DescribeStatement(_) | Self::DescribePortal,
                backend::ROW_DESCRIPTION | backend::NO_DATA,
            )
            | (
                Self::Execute,
                backend::COMMAND_COMPLETE
                | backend::EMPTY_QUERY_RESPONSE
                | backend::PORTAL_SUSPENDED,
            )
            | (Self::Sync | Self::Query | Self::FunctionCall, backend::READY_FOR_QUERY) => {
                Completes
            }
            (Self::DescribeStatement(_), b't')
            | (Self::Execute, b'D' | b'd' | b'c' | b'H' | b'G')
            | (Self::Query, b'T' | b'D' | b'C' | b'I' | b'd' | b'c' | b'H' | b'G')
            | (Self::FunctionCall, b'V') => Continues,
            _ => Violates,
        }
    }

    /// Whether the backend shows what it runs for this message. The others are over in no time, and Close and Sync aren't
    /// even interrupted.
    fn is_shown(&self) -> bool {
        matches!(
            self,
            Self::Parse | Self::Bind | Self::Execute | Self::Query | Self::FunctionCall
        )
    }

    /// Whether the backend sends ReadyForQuery for this message even after an error.
    pub(super) fn is_synced(&self) -> bool {
        matches!(self, Self::Sync | Self::Query | Self::FunctionCall)
    }
}

/// What a cancel finds on its way to what a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing.
    Open,
    /// A prologue that has not been answered. When the backend shows a statement without its mark, it is past it.
    Guarded,
}

/// One batch under way: what its session sent, and what the backend has yet to answer.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) session: SessionId,
    pub(super) steps: VecDeque<Step>,
    /// As the replies so far have it.
    pub(super) standing: Standing,
    /// As it will be if everything that was sent succeeds.
    pub(super) ahead: Standing,
    /// Something failed, and the backend skips, or has skipped, the rest.
    pub(super) failed: bool,
    /// Nothing may be sent behind it until it has been answered.
    pub(super) alone: bool,
    /// What its client sent, if it was sent behind a batch that may fail yet, and the block that it began in.
    pub(super) sent: Vec<Message>,
    pub(super) origin: Block,
    /// A batch ahead of it has failed, so that it had no effect and its answers mean nothing.
    pub(super) is_void: bool,
    /// The backend skips what the session sends until a Sync that it hasn't sent yet.
    pub(super) skipping: bool,
    pub(super) executed: Executed,
    /// The batch's last message was sent.
    pub(super) ended: bool,
    /// The backend reads CopyData.
    pub(super) copying: bool,
    /// It was asked to run a COPY FROM STDIN and hasn't said yet whether it does. If it does, anything but a Sync or Flush
    /// that stands behind the Execute would cost the connection.
    pub(super) awaits_copy: bool,
    /// It was asked to create a table that is to be noted before anything else is run.
    pub(super) awaits_table: bool,
    /// A message that has no place in a COPY was sent in its midst; this is its type.
    pub(super) intruder: Option<u8>,
    /// Its transactions are read-only unless they say otherwise.
    pub(super) read_only: bool,
    /// What its client was told of its settings before.
    pub(super) told: Parameters,
    /// Its client may want it cancelled.
    pub(super) may_be_cancelled: bool,
    /// The backend was sent something of the client's since it was last told to be ready, which it may go on to show as what
    /// it runs while it is at the next prologue.
    pub(super) shows_client: bool,
    /// A prologue was sent behind such a thing.
    pub(super) hides_guard: bool,
    /// It runs something, and not only prepares it.
    pub(super) executes: bool,
    /// An Execute of its pipeline has begun a transaction that isn't over.
    pub(super) has_executed: bool,
    /// Its client wants it cancelled, which the backend doesn't know yet.
    pub(super) cancel: bool,
    /// The cancel that is on its way is for this.
    pub(super) canceling: bool,
    /// How often that was tried.
    pub(super) attempts: u8,
    /// The batch runs a COPY FROM STDIN, behind which nothing may be sent.
    pub(super) copies_in: bool,
    pub(super) script: Option<Script>,
    /// The unnamed portal before the Query, which runs its statements in it.
    pub(super) unnamed: Option<Prepared>,
    /// The part of it that runs now, if its session remembers it.
    pub(super) running: Option<Command>,
    pub(super) after_check: Option<AfterCheck>,
    /// Its next part has met its fault.
    pub(super) is_spared: bool,
    /// The CommandComplete that the client may see only when the deferred constraints hold.
    pub(super) withheld: Option<Message>,
    pub(super) withholds: bool,
    /// How far the part that runs now stands from the start of the client's text, in characters.
    pub(super) offset: usize,
    /// How its text differs from the client's.
    pub(super) shifts: Shifts,
    /// What is done first about what sessions have left that have ended.
    pub(super) orphans: Option<String>,
    /// Its session's tables that each commit empties.
    pub(super) tables: Vec<Table>,
    /// A table was to be created if there is none, and there was one.
    pub(super) existed: bool,
}

impl Flight {
    pub(super) fn new(session: SessionId, standing: Standing) -> Self {
        Self {
            session,
            // What a statement takes that was prepared, and the standing savepoint with it.
            steps: VecDeque::with_capacity(11),
            ahead: standing.clone(),
            alone: false,
            sent: Vec::new(),
            origin: standing.block.clone(),
            is_void: false,
            standing,
            failed: false,
            skipping: false,
            executed: Executed::Nothing,
            ended: false,
            copying: false,
            awaits_copy: false,
            awaits_table: false,
            intruder: None,
            read_only: false,
            told: Parameters::default(),
            may_be_cancelled: false,
            shows_client: false,
            hides_guard: false,
            executes: false,
            has_executed: false,
            cancel: false,
            canceling: false,
            attempts: 0,
            copies_in: false,
            script: None,
            unnamed: None,
            running: None,
            after_check: None,
            is_spared: false,
            withheld: None,
            withholds: false,
            offset: 0,
            shifts: Shifts::default(),
            orphans: None,
            tables: Vec::new(),
            existed: false,
        }
    }

    /// What is sent next reads or writes.
    pub(super) fn query(&mut self) {
        if self.ahead.query() {
            self.steps.push_back(Step::Queries);
        }
    }

    pub(super) fn expect(&mut self, to: Request, reader: Reader) {
        if to.is_synced() {
            self.shows_client = false;
        } else {
            self.shows_client |= to.is_shown() && !matches!(reader, Reader::Guard);
        }
        self.steps.push_back(Step::Reply { to, reader });
    }

    /// The client is told these before it hears of what is sent next.
    pub(super) fn tell(&mut self, reports: Vec<Report>) {
        let told = reports.into_iter().map(Box::new);
        self.steps.extend(told.map(Step::Tell));
    }

    /// The message just sent has given or taken away a name.
    pub(super) fn named(&mut self, what: Nameable, name: Bytes, previous: Option<Prepared>) {
        self.steps.push_back(Step::Named(Named {
            what,
            name,
            previous: previous.map(Box::new),
        }));
    }

    /// A table was created that each commit empties.
    pub(super) fn keep_table(&mut self, session: &mut Session, table: Table) {
        if table.on_commit == OnCommit::DeleteRows {
            self.tables.push(table.clone());
            if !session.tables.contains(&table) {
                session.tables.push(table);
            }
        }
    }

    /// The message just sent makes the backend read a text that may differ from the client's.
    pub(super) fn rewritten(&mut self, shifts: &Shifts) {
        if !shifts.is_empty() {
            self.steps.push_back(Step::Rewritten(shifts.clone()));
        }
    }

    /// Where in the client's text something stands about which the backend complains now.
    pub(super) fn written_position(&self, position: usize) -> usize {
        let of_message = self.steps.iter().skip(1).find_map(|step| match step {
            Step::Reply { .. } => Some(None),
            Step::Rewritten(shifts) => Some(Some(shifts)),
            _ => None,
        });
        let shifts = of_message.flatten().unwrap_or(&self.shifts);
        shifts.written(position) + self.offset
    }

    /// The name that is given or taken away by the message that is answered next.
    pub(super) fn names_next(&self) -> Option<(Nameable, &Bytes)> {
        let of_message = self.steps.iter().skip(1);
        of_message
            .take_while(|step| !matches!(step, Step::Reply { .. }))
            .find_map(|step| match step {
                Step::Named(named) => Some((named.what, &named.name)),
                _ => None,
            })
    }

    /// The backend has to reply before anything else happens.
    pub(super) fn awaits_reply(&self) -> bool {
        matches!(self.steps.front(), Some(Step::Reply { .. }))
    }

    /// The client's own messages are awaited: the backend has nothing to do.
    pub(super) fn awaits_client(&self) -> bool {
        self.copying || self.steps.is_empty()
    }

    /// The backend listens to what is sent next, whatever comes of what was sent before.
    pub(super) fn is_heard(&self) -> bool {
        let mut steps = self.steps.iter().rev();
        let last = steps.find_map(|step| match step {
            Step::Reply { to, .. } => Some(to),
            _ => None,
        });
        last.is_none_or(Request::is_synced)
    }

    /// There is something that could be cancelled.
    pub(super) fn runs(&self) -> bool {
        !self.steps.is_empty()
    }

    /// It is complete, and what it runs belongs to a block that it doesn't end and that hasn't failed yet.
    pub(super) fn is_of_open_block(&self) -> bool {
        let controls = self
            .steps
            .iter()
            .any(|step| matches!(step, Step::Control(_)));
        let goes_on = self
            .script
            .as_ref()
            .is_some_and(|script| !script.parts.is_empty());
        self.ended
            && self.ahead.is_open()
            && !self.standing.is_failed()
            && !controls
            && !goes_on
            && self.after_check.is_none()
    }

    /// How a cancel can hit what is the client's, and nothing else.
    pub(super) fn reach(&self) -> Option<Reach> {
        let is_own = |&(_, reader): &(&Request, &Reader)| matches!(reader, Reader::Guard);
        let mut hit = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Reply { to, reader } => Some((to, reader)),
                _ => None,
            })
            .filter(|(to, _)| to.is_shown())
            .peekable();
        let is_guarded = hit.peek().is_some_and(is_own);
        let mut clients = hit.skip_while(is_own).peekable();
        let is_any = clients.peek().is_some();
        let mut may_skip = false;
        for step in clients {
            let (to, reader) = step;
            // A Query is skipped with a failure of ours before it, and has no answer then.
            if is_own(&step) || may_skip && matches!(to, Request::Query) {
                return None;
            }
            may_skip |= matches!(reader, Reader::Check { .. });
        }
        match is_guarded {
            true => (is_any && !self.hides_guard).then_some(Reach::Guarded),
            false => self.runs().then_some(Reach::Open),
        }
    }

    /// The Execute that answers CopyInResponse is followed by nothing but a Sync.
    pub(super) fn copies_next_sync(&self) -> bool {
        matches!(
            self.steps.get(1),
            Some(Step::Reply {
                to: Request::Sync,
                reader: Reader::Client
            })
        )
    }

    /// "reads and discards messages until a Sync is reached": the steps of the discarded ones go with them.
    pub(super) fn skip_to_sync(&mut self, session: &mut Session) {
        let failed = self.steps.pop_front();
        let parse_failed = matches!(
            failed,
            Some(Step::Reply {
                to: Request::Parse,
                ..
            })
        );
        if parse_failed
            && let Some(Step::Named(named)) = self.steps.front_mut()
            && named.name.is_empty()
        {
            // A failed Parse of the unnamed statement has destroyed the one before.
            named.previous = None;
        }
        let undone = self.drop_to_sync();
        for undo in undone.into_iter().rev() {
            undo.undo(session);
        }
        if !self.steps.is_empty() {
            return;
        }
        self.ahead = self.standing.clone();
        self.skipping = true;
        self.ended = false;
    }

    /// Drops the steps before the next Sync, and returns what of them was done too early.
    pub(super) fn drop_to_sync(&mut self) -> Vec<Undo> {
        let mut dropped = Vec::new();
        while let Some(step) = self.steps.front() {
            if matches!(
                step,
                Step::Reply {
                    to: Request::Sync,
                    ..
                }
            ) {
                break;
            }
            match self.steps.pop_front() {
                Some(Step::Named(named)) => dropped.push(Undo::Named(named)),
                Some(Step::ClosedHeld(before)) => dropped.push(Undo::Held(before)),
                _ => {}
            }
        }
        dropped
    }

    /// As it will stand if everything succeeds that was sent.
    pub(super) fn expected(&self) -> Standing {
        let mut standing = self.ahead.clone();
        standing.end_batch(b'T', self.executed);
        standing
    }

    /// Nothing of this has had, or will have, any effect: what is left of it are answers to be dropped. The session gets
    /// back what it has sent.
    pub(super) fn make_void(&mut self, session: &mut Session) {
        self.is_void = true;
        let mut undone = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Reply { .. } => self.steps.push_back(step),
                Step::Named(named) => undone.push(named),
                Step::ClosedHeld(_)
                | Step::Rewritten(_)
                | Step::Ran(_)
                | Step::Did(_)
                | Step::Ordered(_)
                | Step::Start { .. }
                | Step::Queries
                | Step::Tell(_)
                | Step::Control(_)
                | Step::Part => {}
            }
        }
        for named in undone.into_iter().rev() {
            named.undo(session);
        }
        session.take_back(std::mem::take(&mut self.sent));
        session.block = std::mem::take(&mut self.origin);
    }
}
