//! Cancelling what a backend runs, over a connection of its own.

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
use super::{Answer, startup, within};
use crate::error::{Error, Result};
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
        let opened = startup::open(&self.config, &self.address, &self.encryption).await;
        let mut backend = opened.map_err(|failure| {
            Error::new(format!("no connection to PostgreSQL at {}", self.address))
                .because(failure.cause)
        })?;
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

    /// Does either on a thread of its own, and calls back when that is over, with whether there may have been something to
    /// cancel. If it fails that is not tried again: who asked for it is never told.
    ///
    /// It is no task, because the runtimes are those of the test and of its server, and one that ends would take with it
    /// what the others wait for. The thread lives for as long as the connection.
    pub(crate) fn cancel_aside(&self, is_guarded: bool, done: Box<dyn FnOnce(bool) + Send>) {
        let canceller = self.clone();
        let done = Done {
            found: true,
            call: Some(done),
        };
        // Where no thread can be started, the closure is dropped, which calls back, too.
        let _ = thread::Builder::new()
            .name("shareddb cancel".to_owned())
            .spawn(move || {
                let mut done = done;
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                if let Ok(runtime) = runtime {
                    let cancel = async {
                        match is_guarded {
                            true => canceller.cancel_unmarked().await,
                            false => canceller.cancel().await.map(|()| true),
                        }
                    };
                    let outcome =
                        runtime.block_on(async { timeout(CANCEL_PATIENCE, cancel).await });
                    done.found = !matches!(outcome, Ok(Ok(false)));
                }
            });
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

/// Calls back when it is dropped, so after a panic, too.
struct Done {
    found: bool,
    call: Option<Box<dyn FnOnce(bool) + Send>>,
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call(self.found);
        }
    }
}

/// How long a cancel may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// How often the backend is looked at over one connection, and how long it may go on with a prologue in between.
const LOOKS: usize = 50;
const PAUSE: Duration = Duration::from_millis(1);
