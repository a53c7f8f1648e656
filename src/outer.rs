//! The outer transaction on its backend: begun, checked, rolled back; and the backends that wait for the next one.
//!
//! To connect costs more than everything else that a test pays for its transaction, so a backend whose transaction was
//! rolled back is kept for the next test of the process, unless anything about it is in doubt. What of its state doesn't
//! end with the transaction is cleaned up behind the ROLLBACK, and nobody waits for that: the answers are read when the
//! backend is used again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::backend::{Answer, Backend, Queue, Tls};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mux::message::{Message, to_backend};
use crate::mux::{Deferral, own, redirect};

/// A connection on which the multiplexer may begin the outer transaction.
pub(crate) struct Ready {
    pub(crate) backend: Backend,
    pub(crate) deferral: Deferral,
}

/// The connection of the outer transaction: with settings that it needs for its own life, and one for that of the test. As
/// options they are what RESET goes back to. What stands behind those of the user's own wins over them.
pub(crate) fn target(database: &tokio_postgres::Config, config: &Config) -> tokio_postgres::Config {
    let mut target = database.clone();
    target.options(format!(
        "{} {} -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 {}",
        config.lock_option(),
        database.get_options().unwrap_or_default(),
        redirect::options(),
    ));
    if target.get_application_name().is_none() {
        target.application_name("actix-shareddb");
    }
    target
}

/// A kept backend, or a new one. In a database that is `prepared`, in which nobody commits anything, what was once found
/// out about its constraints stays true.
///
/// One that another connector has encrypted is as good, for it is of the same connection string and the same process.
pub(crate) async fn open(
    target: &tokio_postgres::Config,
    tls: Option<&Tls>,
    patience: Duration,
    prepared: bool,
) -> Result<Ready> {
    let mut queue = Queue::new(patience);
    loop {
        while let Some(mut kept) = KEPT.take(target, tls) {
            // A kept one may have died since; that is no news.
            let Ok(true) = kept.is_clean().await else {
                continue;
            };
            if !prepared {
                match constraints(&mut kept.backend, Vec::new()).await {
                    Ok((deferral, _)) => kept.deferral = deferral,
                    Err(_) => continue,
                }
            }
            return Ok(kept);
        }
        match Backend::connect(target, tls).await {
            Ok(backend) => return Ok(prepare(backend, Vec::new()).await?.0),
            // Another test of this process may end meanwhile, and keep its backend.
            Err(error) => queue.wait(error, give_up_kept).await?,
        }
    }
}

/// A new backend, and the row that it answers a question with, all in the round trip that it begins with anyway.
pub(crate) async fn ask(
    target: &tokio_postgres::Config,
    tls: Option<&Tls>,
    question: &str,
) -> Result<(Ready, Option<Vec<Option<String>>>)> {
    let backend = Backend::connect(target, tls).await?;
    let question = to_backend::query(question.as_bytes());
    let (ready, answers) = prepare(backend, vec![question]).await?;
    Ok((ready, answers.first().and_then(Answer::row)))
}

/// Makes a new backend ready, in one round trip with what else is to be sent first. Gives all answers, too.
async fn prepare(mut backend: Backend, mut first: Vec<Message>) -> Result<(Ready, Vec<Answer>)> {
    first.extend(preparation(&backend));
    let (deferral, answers) = constraints(&mut backend, first).await?;
    Ok((Ready { backend, deferral }, answers))
}

/// The constraints that are deferred initially, by name, and whether any can be deferred.
const DEFERRABLE: &str = "SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ') \
     FILTER (WHERE c.condeferred), count(*) > 0 \
     FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace \
     WHERE c.condeferrable";

/// What a new backend is told once: no rollback undoes it.
fn preparation(backend: &Backend) -> Vec<Message> {
    let mut messages = own::preparation();
    if backend.major_version() >= 17 {
        messages.push(to_backend::query(b"SET transaction_timeout = 0"));
    }
    let modes = format!("SELECT {}", redirect::default_modes());
    messages.push(to_backend::query(modes.as_bytes()));
    messages
}

/// Asks how the database defers constraints, in one round trip with what else is to be sent first. Gives all answers, too.
async fn constraints(
    backend: &mut Backend,
    mut messages: Vec<Message>,
) -> Result<(Deferral, Vec<Answer>)> {
    messages.push(to_backend::query(DEFERRABLE.as_bytes()));
    let answers = backend.exchange(&messages).await?;
    if let Some(error) = answers.iter().find_map(Answer::error) {
        return Err(Error::new("the outer transaction could not be begun").because(error));
    }
    let row = answers.last().and_then(Answer::row).unwrap_or_default();
    let deferral = match &row[..] {
        [Some(names), Some(any)] if any == "t" => Deferral::Known(names.clone()),
        [None, Some(any)] if any == "t" => Deferral::Known(String::new()),
        _ => Deferral::None,
    };
    Ok((deferral, answers))
}

/// What doesn't end with a transaction: prepared statements, what sequences remember, advisory locks of the session.
/// Settings, temporary tables, cursors and LISTEN were rolled back, and a cached plan is valid as long as PostgreSQL says.
const CLEAN_UP: &str =
    "DEALLOCATE ALL; DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all()";

impl Ready {
    /// Checks what is still deferred and that the transaction is still ours, and rolls it back, in one round trip. `undo`
    /// goes before.
    pub(crate) async fn roll_back(&mut self, undo: Option<String>) -> Result<()> {
        let mut steps = Vec::new();
        steps.extend(undo.map(|sql| (Rollback::Undo, sql)));
        let check = "SET CONSTRAINTS ALL IMMEDIATE".to_owned();
        steps.push((Rollback::Check, check));
        steps.push((Rollback::Own, own::rollback_to(false)));
        steps.push((Rollback::End, "ROLLBACK".to_owned()));
        let script: Vec<_> = steps.iter().map(|(_, sql)| &sql[..]).collect();
        let mut messages = vec![to_backend::query(script.join("; ").as_bytes())];
        messages.push(to_backend::query(CLEAN_UP.as_bytes()));
        messages.extend(own::preparation());
        self.backend.send(&messages).await?;

        let answers = self.backend.receive(1).await?;
        let Some(error) = answers.iter().find_map(Answer::error) else {
            return Ok(());
        };
        let done = answers.iter().map(Answer::completed).sum::<usize>();
        let failed = steps.get(done).map(|&(step, _)| step);
        self.explain(failed, error).await
    }

    /// Something failed on the way to the ROLLBACK: goes on behind it, and says what it means.
    async fn explain(&mut self, failed: Option<Rollback>, error: String) -> Result<()> {
        let mut lost =
            matches!(failed, Some(Rollback::Undo | Rollback::Own)).then(|| error.clone());
        let own = to_backend::query(own::rollback_to(false).as_bytes());
        let end = to_backend::query(b"ROLLBACK");
        let answers = self.backend.exchange(&[own, end]).await?;
        let [.., own, end] = &answers[..] else {
            return Err(Error::new("the outer transaction's end was not answered"));
        };
        if lost.is_none() {
            lost = own.error();
        }
        if let Some(error) = lost {
            return Err(Error::new("the shared transaction was lost: its savepoint is gone")
                .because(error)
                .help("a statement has ended the transaction unseen; what the test wrote may be committed"));
        }
        if let Some(error) = end.error() {
            return Err(
                Error::new("the shared transaction could not be rolled back").because(error),
            );
        }
        Err(
            Error::new("a deferred constraint is violated by what the test wrote")
                .because(error)
                .help("in production the transaction that wrote it could not have been committed"),
        )
    }

    /// Keeps the backend, which has just been rolled back, for the next test.
    pub(crate) fn keep(mut self, target: tokio_postgres::Config, tls: Option<&Tls>) {
        self.backend.stream.forget_runtimes();
        KEPT.put(target, tls, self);
    }

    /// Whether the clean-up has succeeded and the backend still lives.
    async fn is_clean(&mut self) -> Result<bool> {
        let answers = self.backend.receive_all().await?;
        // This runtime has read what it wanted; another may be the one that needs the socket next.
        self.backend.stream.forget_runtimes();
        let failed = answers.iter().any(|answer| answer.error().is_some());
        Ok(!failed && self.backend.is_quiet())
    }
}

/// The statements that end the outer transaction.
#[derive(Clone, Copy)]
enum Rollback {
    Undo,
    Check,
    Own,
    End,
}

/// Closes the backends that are kept: the server needs the room, and nobody here uses them.
pub(crate) fn give_up_kept() {
    KEPT.give_up();
}

/// Backends that wait for the next test of this process.
static KEPT: Kept = Kept(Mutex::new(Vec::new()));

/// Of how many targets: of more, the one that was used last before the others.
const TARGETS: usize = 4;

/// The last that was kept is the last of them.
struct Kept(Mutex<Vec<Entry>>);

struct Entry {
    target: tokio_postgres::Config,
    has_connector: bool,
    ready: Ready,
}

impl Kept {
    fn take(&self, target: &tokio_postgres::Config, tls: Option<&Tls>) -> Option<Ready> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alike =
            |entry: &Entry| entry.target == *target && entry.has_connector == tls.is_some();
        let index = kept.iter().rposition(is_alike)?;
        Some(kept.remove(index).ready)
    }

    fn give_up(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }

    fn put(&self, target: tokio_postgres::Config, tls: Option<&Tls>, ready: Ready) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Entry {
            target,
            has_connector: tls.is_some(),
            ready,
        });
        let mut latest: Vec<&tokio_postgres::Config> = Vec::new();
        for entry in kept.iter().rev() {
            if !latest.contains(&&entry.target) {
                latest.push(&entry.target);
            }
        }
        if let Some(&oldest) = latest.get(TARGETS) {
            let oldest = oldest.clone();
            kept.retain(|entry| entry.target != oldest);
        }
    }
}
