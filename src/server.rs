//! The server under test: an actix [`Server`] on a named thread of its own, which is joined.
//!
//! Knows neither a database nor a test case.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::rt::System;
use actix_web::rt::time::timeout;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use crate::panics::PanicLog;
use crate::verdict::Failure;
use crate::{Error, Result, signals};

/// A server that runs on its own thread, in its own actix [`System`], as it does in production.
#[derive(Debug)]
pub(crate) struct ServerThread {
    stop: oneshot::Sender<()>,
    thread: Thread,
}

impl ServerThread {
    /// Starts the thread `name` and waits until the server's workers are ready.
    ///
    /// `serve` is called on the new thread, inside its `System`, so that what it spawns belongs to the server. What
    /// it returns beside the server is handed back.
    pub(crate) async fn start<T: Send + 'static>(
        name: String,
        panics: &PanicLog,
        serve: impl AsyncFnOnce() -> (T, Result<Server>) + Send + 'static,
    ) -> Result<(T, Self), Failure> {
        signals::end_process_when_told()
            .map_err(|error| Failure::new("the listener for signals did not start", error))?;
        let (ready, is_ready) = oneshot::channel();
        let (stop, is_stopped) = oneshot::channel();
        let panics = panics.clone();
        let thread = Thread::spawn(name, move || run(serve, ready, is_stopped, &panics))
            .map_err(|error| Failure::new("the server's thread did not start", error))?;

        match is_ready.await {
            Ok(cargo) => Ok((cargo, Self { stop, thread })),
            Err(_) => Err(match thread.join().await {
                Err(failure) => failure,
                Ok(()) => unreachable!("the thread ends well only after it was ready"),
            }),
        }
    }

    /// Stops the server at once: what it is at is dropped.
    ///
    /// When this returns, the listener is closed and the thread has been joined. It says whether the server had
    /// come to an end of its own before.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        // The receiver is gone when the server has ended already; the thread's result tells why.
        let _ = self.stop.send(());
        match timeout(GRACE, self.thread.join()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Error(format!(
                "the server's thread is still busy {GRACE:?} after it was told to stop; \
                 a task that `serve` spawned must be blocking it"
            ))),
        }
    }
}

/// How long the server's thread may take to end, when it has nothing to do but to drop its tasks.
const GRACE: Duration = Duration::from_secs(5);

/// A thread whose end can be awaited, so that the tasks of the runtime that waits go on.
#[derive(Debug)]
struct Thread {
    handle: JoinHandle<Result<()>>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    fn spawn(name: String, body: impl FnOnce() -> Result<()> + Send + 'static) -> io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let handle = thread::Builder::new().name(name).spawn(move || {
            // Dropped last, by a panic too.
            let _end: oneshot::Sender<()> = end;
            body()
        })?;
        Ok(Self { handle, ended })
    }

    async fn join(self) -> Result<(), Failure> {
        // An error is the expected answer: the sender was dropped.
        let _ = self.ended.await;
        match self.handle.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Error(format!("{error:?}"))),
            Err(payload) => Err(Failure::Panic(payload)),
        }
    }
}

fn run<T>(
    serve: impl AsyncFnOnce() -> (T, Result<Server>),
    ready: oneshot::Sender<T>,
    stop: oneshot::Receiver<()>,
    panics: &PanicLog,
) -> Result<()> {
    // A panic of `serve` ends this thread and is raised again in the test, so it needn't be recorded.
    System::new().block_on(async {
        let (cargo, server) = serve().await;
        let _watch = panics.watch_current_system();
        let mut server = server.map_err(|error| error.during("`serve` failed"))?;
        start_workers(&mut server).await?;
        // Nobody is there to take it when the test's thread is gone; then `stop` is too.
        let _ = ready.send(cargo);

        match select(&mut server, stop).await {
            // A server that is dropped closes its listener and forces its workers to end. To stop it gracefully can
            // take a second for a response that nobody has read, and couldn't be cut short.
            Either::Right(_) => Ok(()),
            Either::Left((Err(error), _)) => {
                Err(Error::new("the server ended while the test ran").because(error))
            }
            Either::Left((Ok(()), _)) => Err(Error::new(
                "the server was stopped while the test ran",
            )
            .help(
                "the application stopped it through its `ServerHandle`; the test's end does that",
            )),
        }
    })
}

/// Polls the server once, which starts its workers and waits until each has built its `App`.
async fn start_workers(server: &mut Server) -> Result<()> {
    match poll_fn(|context| Poll::Ready(Pin::new(&mut *server).poll(context))).await {
        Poll::Pending => Ok(()),
        Poll::Ready(Err(error)) => Err(Error::new("the server did not start").because(error)),
        Poll::Ready(Ok(())) => Err(Error::new("the server was stopped before it started")),
    }
}
