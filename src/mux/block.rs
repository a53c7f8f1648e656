//! Where a session stands in its own transactions, and what the standing savepoint must do about it.
//!
//! # Theory of operation
//!
//! All sessions live in one outer transaction, so each of *their* transactions, whether implicit (a batch outside a
//! block) or explicit (BEGIN ... COMMIT), is what has happened since the **standing savepoint** was set. From the
//! first transaction on there is always one to go back to, and it is set anew *before* a transaction, never after it:
//!
//! * a transaction that was kept leaves [`Work::Kept`]: the next one starts with RELEASE and SAVEPOINT, or, if it was a
//!   plain one ([`Work::Plain`]), with one more SAVEPOINT on top;
//! * one that has only read leaves [`Work::None`]: the next one needs no other savepoint;
//! * a transaction that was undone leaves [`Work::Undone`]: the next one starts with ROLLBACK TO;
//! * the very first one starts with the BEGIN of the outer transaction, and SAVEPOINT ([`Work::Outside`]);
//! * so BEGIN, COMMIT and ROLLBACK by themselves need no traffic at all, and nothing is ever sent behind a batch,
//!   where a COPY FROM STDIN would choke on it.
//!
//! ```text
//!             start                    end of batch: status T -> Kept, E -> Undone
//!    None ------------> Implicit -----------------------------------------------> None
//!     |                    |
//!     | BEGIN              | BEGIN (in a simple query with several statements)
//!     v        start       v
//!    Open, not started --> Open, started --- status E --> Open, failed
//!     |                    |      ^------- ROLLBACK TO -----|
//!     | COMMIT, ROLLBACK   | COMMIT -> Kept, ROLLBACK -> Undone  (failed: both -> Undone)
//!     v                    v
//!    None                 None
//! ```
//!
//! Two rules. Rule 1: everything that decides what the standing savepoint does lives in this file. Rule 2: this file
//! knows no messages, no sessions and no queue; it is asked twice about each step, once ahead of time with what will
//! hold if everything succeeds (to write a pipeline), once when the backend's reply has come (to know).

use super::command::{Characteristics, Command, IsolationLevel, ROLLBACK};
use super::message::to_session::Report;
use super::modes::Modes;

/// A session's transaction, as its client sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Block {
    /// No transaction: the next statement begins one.
    #[default]
    None,
    /// The implicit transaction of a batch outside a block.
    Implicit(Transaction),
    /// BEGIN has been seen.
    Open(Open),
}

impl Block {
    /// The transaction status that the session's client is shown.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::None | Self::Implicit(_) => b'I',
            Self::Open(open) if open.failed => b'E',
            Self::Open(_) => b'T',
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// It holds work on the backend.
    pub(crate) fn holds_backend(&self) -> bool {
        matches!(self, Self::Open(open) if open.transaction.started)
    }

    /// The backend works on an implicit transaction.
    pub(crate) fn is_implicit(&self) -> bool {
        matches!(self, Self::Implicit(transaction) if transaction.started)
    }

    /// The backend works on a transaction of it, be that implicit or not.
    pub(crate) fn is_on_backend(&self) -> bool {
        self.holds_backend() || self.is_implicit()
    }

    /// A batch was refused before it reached the backend.
    pub(crate) fn fail(&mut self) {
        if let Self::Open(open) = self {
            open.failed = true;
        }
    }
}

/// An open transaction block.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Open {
    transaction: Transaction,
    /// A statement failed; only the end of the block or ROLLBACK TO a savepoint helps.
    failed: bool,
}

/// A transaction, whether a block or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transaction {
    /// Something of it was sent to the backend, so the standing savepoint guards it.
    started: bool,
    /// The backend was told of the modes.
    in_mode: bool,
    modes: Modes,
}

/// The standing savepoint: what the work since it was set is worth, and how deep it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    work: Work,
    /// How many savepoints of ours lie below.
    depth: u8,
}

impl Guard {
    /// Before the outer transaction has begun, which the first prologue does.
    pub(crate) fn outside() -> Self {
        Self {
            work: Work::Outside,
            depth: 0,
        }
    }

    /// The outer transaction has not begun.
    pub(crate) fn is_outside(self) -> bool {
        self.work == Work::Outside
    }

    /// The work is rolled back, which the backend doesn't know yet.
    pub(crate) fn is_undone(self) -> bool {
        self.work == Work::Undone
    }

    /// The same for a batch that is sent before the one ahead is answered: it must begin with a move, which fails if the
    /// one ahead has failed.
    pub(crate) fn behind_another(self) -> Self {
        match self.work {
            Work::None => Self {
                work: Work::Plain,
                ..self
            },
            _ => self,
        }
    }

    /// None of ours lies below any more.
    pub(crate) fn flatten(&mut self) {
        self.depth = 0;
    }

    /// The savepoint to roll back to is one on top, not the lowest.
    pub(crate) fn is_nested(self) -> bool {
        self.depth > 0
    }
}

/// What the work since the standing savepoint is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Work {
    /// There is none.
    #[default]
    None,
    /// It stays, and it was plain enough for the next savepoint to be set on top of it.
    Plain,
    /// It stays, and ends with its subtransaction: the savepoint is to be released and set anew.
    Kept,
    /// It goes: the savepoint is to be rolled back to.
    Undone,
    /// The outer transaction has not begun, so there is no savepoint either.
    Outside,
    /// A transaction is under way.
    UnderWay,
}

/// What a batch has run, as far as its savepoint is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Executed {
    /// Nothing: a driver prepares statements in batches of their own.
    #[default]
    Nothing,
    /// Statements that leave nothing behind at all.
    Reads,
    /// Statements that leave nothing behind that ends with a subtransaction.
    Plain,
    Anything,
}

/// How many savepoints are set on top of each other before all are released at once.
///
/// To set one costs a third of what it costs to release one and set another. But PostgreSQL looks through the stack of
/// open subtransactions to tell its own rows, so it must not grow.
const NESTING: u8 = 15;

/// How the standing savepoint is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Begins the outer transaction.
    Begin,
    /// Releases the lowest savepoint, with all above it.
    Release,
    /// Sets the lowest savepoint.
    Set,
    /// Sets one more on top.
    Nest,
    /// Rolls back to the lowest savepoint.
    RollBack,
    /// Rolls back to the one on top.
    RollBackNested,
    /// Puts the session's settings in force.
    HandOver,
}

/// What has to reach the backend before a transaction's first message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Prologue {
    pub(crate) moves: &'static [Move],
    /// The modes, unless the backend knows them or needs none yet.
    pub(crate) modes: Option<Characteristics>,
}

/// What a client is told about a control statement that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) tag: &'static str,
    pub(crate) warning: Option<Report>,
}

impl Done {
    pub(crate) fn new(tag: &'static str) -> Self {
        Self { tag, warning: None }
    }
}

pub(crate) const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
pub(crate) const ACTIVE_SQL_TRANSACTION: &str = "25001";
const IN_FAILED_SQL_TRANSACTION: &str = "25P02";

/// A session's block and the standing savepoint, which change together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) block: Block,
    pub(crate) guard: Guard,
}

impl Standing {
    /// A message is about to be sent: begins the transaction it belongs to, and says what must precede it. What others
    /// have left is put away where no ROLLBACK TO reaches: when the standing savepoint is released, before it is set. A message
    /// of our own needs no modes, which may still change.
    pub(crate) fn start(&mut self, hands_over: bool, in_mode: bool) -> Option<Prologue> {
        if self.block == Block::None {
            self.block = Block::Implicit(Transaction::default());
        }
        let transaction = self.transaction_mut()?;
        let tells = in_mode && !transaction.in_mode;
        if transaction.started && !tells {
            return None;
        }
        transaction.started = true;
        transaction.in_mode |= in_mode;
        let modes = tells.then(|| transaction.modes.asked());
        let moves = self.move_guard(hands_over);
        Some(Prologue { moves, modes })
    }

    fn transaction_mut(&mut self) -> Option<&mut Transaction> {
        match &mut self.block {
            Block::None => None,
            Block::Implicit(transaction) => Some(transaction),
            Block::Open(open) => Some(&mut open.transaction),
        }
    }

    fn transaction(&self) -> Option<&Transaction> {
        match &self.block {
            Block::None => None,
            Block::Implicit(transaction) => Some(transaction),
            Block::Open(open) => Some(&open.transaction),
        }
    }

    /// Makes the standing savepoint guard what comes next.
    fn move_guard(&mut self, hands_over: bool) -> &'static [Move] {
        let work = std::mem::replace(&mut self.guard.work, Work::UnderWay);
        match (work, self.guard.depth) {
            (Work::UnderWay, _) => &[],
            (Work::Undone, 0) if hands_over => {
                &[Move::RollBack, Move::Release, Move::HandOver, Move::Set]
            }
            (Work::Undone, _) if hands_over => {
                self.guard.depth = 0;
                &[
                    Move::RollBackNested,
                    Move::Release,
                    Move::HandOver,
                    Move::Set,
                ]
            }
            (Work::None | Work::Plain | Work::Kept, _) if hands_over => {
                self.guard.depth = 0;
                &[Move::Release, Move::HandOver, Move::Set]
            }
            (Work::None, _) => &[],
            (Work::Plain, depth) if depth < NESTING => {
                self.guard.depth = depth + 1;
                &[Move::Nest]
            }
            (Work::Plain | Work::Kept, _) => {
                self.guard.depth = 0;
                &[Move::Release, Move::Set]
            }
            (Work::Outside, _) if hands_over => &[Move::Begin, Move::HandOver, Move::Set],
            (Work::Outside, _) => &[Move::Begin, Move::Set],
            (Work::Undone, 0) => &[Move::RollBack],
            (Work::Undone, _) => &[Move::RollBackNested],
        }
    }

    /// The batch's last reply has come, with the backend's own transaction status.
    pub(crate) fn end_batch(&mut self, status: u8, executed: Executed) {
        let failed = status == b'E';
        match &mut self.block {
            Block::None => {}
            Block::Implicit(_) if failed => self.finish(Work::Undone),
            Block::Implicit(_) => self.finish(match executed {
                Executed::Nothing | Executed::Reads => Work::None,
                Executed::Plain => Work::Plain,
                Executed::Anything => Work::Kept,
            }),
            // A block in which nothing ran has no business with the backend's status.
            Block::Open(open) if !open.transaction.started => {}
            Block::Open(open) => open.failed = failed,
        }
    }

    /// BEGIN, START TRANSACTION. Within a block PostgreSQL warns, and obeys the modes all the same.
    pub(crate) fn begin(
        &mut self,
        tag: &'static str,
        modes: Characteristics,
    ) -> Result<Done, Report> {
        if self.is_failed() {
            return Err(aborted());
        }
        let mut transaction = self.transaction().cloned().unwrap_or_default();
        transaction.set_modes(modes)?;
        self.block = Block::Open(Open {
            transaction,
            failed: false,
        });
        Ok(Done::new(tag))
    }

    /// SET TRANSACTION, or a SET of one of the modes.
    pub(crate) fn set_modes(
        &mut self,
        tag: &'static str,
        modes: Characteristics,
    ) -> Result<Done, Report> {
        if self.is_failed() {
            return Err(aborted());
        }
        if self.block == Block::None {
            self.block = Block::Implicit(Transaction::default());
        }
        if let Some(transaction) = self.transaction_mut() {
            transaction.set_modes(modes)?;
        }
        Ok(Done::new(tag))
    }

    /// Whether the transaction is to be READ ONLY or READ WRITE, where the backend must be asked at once.
    pub(crate) fn sets_read_only(&self, modes: Characteristics) -> Option<bool> {
        self.transaction()?.sets_read_only(modes)
    }

    /// The isolation level that the transaction was asked for.
    pub(crate) fn isolation(&self) -> Option<IsolationLevel> {
        self.transaction()?.modes.asked().isolation
    }

    /// A statement is about to run that reads or writes. Says whether it is the first.
    pub(crate) fn query(&mut self) -> bool {
        self.transaction_mut()
            .is_some_and(|transaction| transaction.modes.query())
    }

    /// A statement about a savepoint has succeeded.
    pub(crate) fn note(&mut self, command: &Command) {
        if let Some(transaction) = self.transaction_mut() {
            transaction.modes.note(command);
        }
        if let (Command::RollbackTo(_), Block::Open(open)) = (command, &mut self.block) {
            open.failed = false;
        }
    }

    /// COMMIT, END.
    pub(crate) fn commit(&mut self, chain: bool) -> Result<Done, Report> {
        let failed = matches!(&self.block, Block::Open(open) if open.failed);
        let tag = if failed { ROLLBACK } else { "COMMIT" };
        let work = if failed { Work::Undone } else { Work::Kept };
        self.end_block(work, chain, tag, "COMMIT AND CHAIN")
    }

    /// ROLLBACK, ABORT.
    pub(crate) fn rollback(&mut self, chain: bool) -> Result<Done, Report> {
        self.end_block(Work::Undone, chain, ROLLBACK, "ROLLBACK AND CHAIN")
    }

    fn end_block(
        &mut self,
        work: Work,
        chain: bool,
        tag: &'static str,
        command: &str,
    ) -> Result<Done, Report> {
        if let Block::Open(open) = &self.block {
            let next = chain.then(|| Open {
                transaction: Transaction {
                    modes: open.transaction.modes.chained(open.failed),
                    ..Transaction::default()
                },
                failed: false,
            });
            self.finish(work);
            if let Some(open) = next {
                self.block = Block::Open(open);
            }
            return Ok(Done::new(tag));
        }
        if chain {
            return Err(needs_block(command));
        }
        self.finish(work);
        Ok(Done {
            tag,
            warning: Some(no_transaction()),
        })
    }

    /// A COMMIT fails on what was deferred, and the transaction is undone. Outside a block there was a warning first.
    pub(crate) fn fail_commit(&mut self) -> Option<Report> {
        let warning = (!self.is_open()).then(no_transaction);
        self.finish(Work::Undone);
        warning
    }

    /// Undoes the transaction, if one is under way.
    pub(crate) fn undo(&mut self) {
        self.finish(Work::Undone);
    }

    /// Ends the transaction, if one is under way.
    fn finish(&mut self, work: Work) {
        if self
            .transaction()
            .is_some_and(|transaction| transaction.started)
        {
            self.guard.work = work;
        }
        self.block = Block::None;
    }

    /// Whether a transaction that the backend knows of would be kept by a COMMIT.
    pub(crate) fn commits_work(&self) -> bool {
        match &self.block {
            Block::None => false,
            Block::Implicit(transaction) => transaction.started,
            Block::Open(open) => open.transaction.started && !open.failed,
        }
    }

    /// The block holds work on the backend, so no other session may speak to it.
    pub(crate) fn holds_backend(&self) -> bool {
        self.block.holds_backend()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.block.is_open()
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(&self.block, Block::Open(open) if open.failed)
    }

    /// The same of a block that the backend has seen nothing of, and would therefore run what comes next.
    pub(crate) fn is_failed_unseen(&self) -> bool {
        self.is_failed() && !self.holds_backend()
    }
}

impl Transaction {
    fn set_modes(&mut self, modes: Characteristics) -> Result<(), Report> {
        let at_once = self.sets_read_only(modes);
        let is_told_less = self.modes.set(modes)?;
        if is_told_less || modes.read_only.is_some() && at_once.is_none() {
            self.in_mode = false;
        }
        Ok(())
    }

    /// Before the first query the next prologue will do. Behind it, and where READ ONLY is in force already, it may fail.
    fn sets_read_only(&self, modes: Characteristics) -> Option<bool> {
        let writes = modes.read_only == Some(false);
        let may_be_read_only = self.in_mode && self.modes.asked().read_only != Some(false);
        let at_once = self.started && (self.modes.is_fixed() || writes && may_be_read_only);
        modes.read_only.filter(|_| at_once)
    }
}

fn no_transaction() -> Report {
    Report::warning(
        NO_ACTIVE_SQL_TRANSACTION,
        "there is no transaction in progress",
    )
}

/// The error of a command that PostgreSQL runs in a transaction block only.
pub(crate) fn needs_block(command: &str) -> Report {
    Report::error(
        NO_ACTIVE_SQL_TRANSACTION,
        format!("{command} can only be used in transaction blocks"),
    )
}

/// The error of anything but the end of a block that has failed.
pub(crate) fn aborted() -> Report {
    Report::error(
        IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
