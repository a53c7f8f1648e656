//! What is done about a backend's work over another connection: it is cancelled, or asked why it takes so long.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::stream::{Encryption, Stream};
use super::{Answer, Backend, startup, within};
use crate::error::{Error, Result};
use crate::mux::Reach;
use crate::mux::driver::{Aside, Done};
use crate::mux::message::to_backend;
use crate::mux::own::MARK;

/// What cancelling needs: the address that was connected to, in the same way, how to authenticate there, and the key.
#[derive(Clone)]
pub(crate) struct Canceller {
    pub(super) process_id: i32,
    pub(super) secret_key: i32,
    pub(super) address: Address,
    pub(super) encryption: Encryption,
    pub(super) config: Arc<tokio_postgres::Config>,
}

impl Canceller {
    /// Sends a `CancelRequest` on a connection of its own, and waits until the server has closed that one.
    ///
    /// The server closes it only after it has signalled the backend, and a backend ignores a signal that finds it
    /// between two commands. So what is dispatched after this returned can't be hit.
    ///
    /// # Errors
    ///
    /// If the server can't be reached. Whether there was something to cancel is never known.
    pub(crate) async fn cancel(&self) -> Result<()> {
        let patience = self.config.get_connect_timeout().copied();
        within(patience, self.request()).await.map_err(|error| {
            Error::new(format!(
                "no CancelRequest got through to PostgreSQL at {}",
                self.address
            ))
            .because(error)
            .help("the server may have been stopped, or be out of connections; its log says more")
        })
    }

    /// Cancels what the backend runs if that isn't [marked](MARK) as the multiplexer's own, and says whether there was
    /// anything. While something marked runs, it waits a little for what comes behind that.
    ///
    /// As above, what is dispatched afterwards can't be hit.
    async fn cancel_unmarked(&self) -> Result<bool> {
        let mut backend = self.another().await?;
        let question = to_backend::query(unmarked(self.process_id).as_bytes());
        for _ in 0..LOOKS {
            let answers = backend.exchange(std::slice::from_ref(&question)).await?;
            let row = answers.first().and_then(Answer::row).unwrap_or_default();
            match row.first() {
                Some(Some(found)) if found == "cancelled" => return Ok(true),
                Some(Some(found)) if found == "marked" => sleep(PAUSE).await,
                _ => break,
            }
        }
        Ok(false)
    }

    /// Says who holds the lock that the backend waits for, if it waits for one: each one's application, process, state and
    /// last statement, as far as this user may know.
    async fn blockers(&self) -> Result<Option<String>> {
        let mut backend = self.another().await?;
        let question = to_backend::query(blockers(self.process_id).as_bytes());
        let answers = backend.exchange(&[question]).await?;
        let row = answers.first().and_then(Answer::row).unwrap_or_default();
        Ok(row.into_iter().next().flatten())
    }

    /// Another connection to the same server.
    async fn another(&self) -> Result<Backend> {
        let opened = startup::open(&self.config, &self.address, &self.encryption).await;
        opened.map_err(|failure| {
            Error::new(format!("no connection to PostgreSQL at {}", self.address))
                .because(failure.cause)
        })
    }

    async fn request(&self) -> io::Result<()> {
        let mut stream = Stream::connect(&self.address, &self.encryption).await?;
        let mut message = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut message);
        stream.write_all(&message).await?;
        stream.flush().await?;
        match stream.read(&mut [0]).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server answered a CancelRequest, which has no answer",
            )),
            Err(error) => match error.kind() {
                // A proxy in between may close in this way, and a server that encrypts doesn't say farewell.
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Ok(()),
                _ => Err(error),
            },
        }
    }
}

/// Looks at what a backend runs, and cancels it in the same statement, so that it can't have gone back to anything marked
/// in between. Where the server doesn't tell (`track_activities = off`), nothing is cancelled.
fn unmarked(process_id: i32) -> String {
    format!(
        "SELECT CASE \
         WHEN state = 'fastpath function call' OR state = 'active' AND query NOT LIKE '{MARK}%' \
         THEN CASE WHEN pg_catalog.pg_cancel_backend(pid) THEN 'cancelled' END \
         WHEN state = 'active' THEN 'marked' END \
         FROM pg_catalog.pg_stat_activity WHERE pid = {process_id}"
    )
}

fn blockers(process_id: i32) -> String {
    format!(
        "SELECT pg_catalog.string_agg(CASE blocker WHEN 0 THEN 'a prepared transaction' ELSE pg_catalog.concat(\
         COALESCE('\"' || NULLIF(application_name, '') || '\"', backend_type, 'somebody'), ' (process ', blocker, ')', \
         ', ' || state, \
         CASE WHEN query <> '' AND query NOT LIKE '{MARK}%' AND query NOT LIKE '<%>' THEN ', whose last statement was: ' \
         || pg_catalog.left(pg_catalog.regexp_replace(query, '\\s+', ' ', 'g'), 300) END) END, '; and by ') \
         FROM (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids({process_id})) AS blocker) AS blockers \
         LEFT JOIN pg_catalog.pg_stat_activity ON pid = blocker"
    )
}

impl Aside for Canceller {
    /// If it fails that is not tried again: who asked for it is never told.
    fn cancel(&self, reach: Reach, done: Done<bool>) {
        let canceller = self.clone();
        aside("shareddb cancel", true, done, async move {
            let found = match reach {
                Reach::Guarded => canceller.cancel_unmarked().await,
                Reach::Open => canceller.cancel().await.map(|()| true),
            };
            // Whoever got no answer may have cancelled something.
            found.unwrap_or(true)
        });
    }

    fn find_blockers(&self, done: Done<Option<String>>) {
        let canceller = self.clone();
        aside("shareddb blockers", None, done, async move {
            canceller.blockers().await.unwrap_or_default()
        });
    }
}

/// Does something on a thread of its own, and calls back when that is over, with the outcome, or with `otherwise` where it
/// takes too long or can't even begin.
///
/// It is no task, because the runtimes are those of the test and of its server, and one that ends would take with it what
/// the others wait for. The thread lives for as long as the connection.
fn aside<T: Send + 'static>(
    name: &str,
    otherwise: T,
    done: Done<T>,
    work: impl Future<Output = T> + Send + 'static,
) {
    let end = End {
        outcome: Some(otherwise),
        done: Some(done),
    };
    // Where no thread can be started, the closure is dropped, which calls back, too.
    let _ = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut end = end;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && let Ok(outcome) = runtime.block_on(async { timeout(PATIENCE, work).await })
        {
            end.outcome = Some(outcome);
        }
    });
}

/// Calls back when it is dropped, so after a panic, too.
struct End<T> {
    outcome: Option<T>,
    done: Option<Done<T>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        if let (Some(outcome), Some(done)) = (self.outcome.take(), self.done.take()) {
            done(outcome);
        }
    }
}

/// How long what is done aside may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the backend is looked at over one connection, and how long it may go on with a prologue in between.
const LOOKS: usize = 50;
const PAUSE: Duration = Duration::from_millis(1);
