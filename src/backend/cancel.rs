//! Cancelling what a backend runs, over a connection of its own.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::time::timeout;

use super::address::Address;
use super::stream::{Encryption, Stream};
use super::within;
use crate::error::{Error, Result};

/// What a `CancelRequest` needs: the address that was connected to, in the same way, and the key.
#[derive(Clone)]
pub(crate) struct Canceller {
    pub(super) process_id: i32,
    pub(super) secret_key: i32,
    pub(super) address: Address,
    pub(super) encryption: Encryption,
    pub(super) patience: Option<Duration>,
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
        within(self.patience, self.request())
            .await
            .map_err(|error| {
                Error::new(format!(
                    "no CancelRequest got through to PostgreSQL at {}",
                    self.address
                ))
                .because(error)
                .help(
                    "the server may have been stopped, or be out of connections; its log says more",
                )
            })
    }

    /// Does the same on a thread of its own, and calls back when that is done or has failed: one that can't be sent has hit
    /// nothing, and who asked for it is never told.
    ///
    /// It is no task, because the runtimes are those of the test and of its server, and one that ends would take with it
    /// what the others wait for. The thread lives for as long as the connection.
    pub(crate) fn cancel_aside(&self, done: Box<dyn FnOnce() + Send>) {
        let canceller = self.clone();
        let done = Done(Some(done));
        // Where no thread can be started, the closure is dropped, which calls back, too.
        let _ = thread::Builder::new()
            .name("shareddb cancel".to_owned())
            .spawn(move || {
                let _done = done;
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                if let Ok(runtime) = runtime {
                    let cancel = async { timeout(CANCEL_PATIENCE, canceller.cancel()).await };
                    let _ = runtime.block_on(cancel);
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

/// Calls back when it is dropped, so after a panic, too.
struct Done(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}

/// How long a CancelRequest may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
