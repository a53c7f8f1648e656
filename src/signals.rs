//! Keeps Ctrl-C working.
//!
//! Unless the application disables it, an actix server takes SIGINT and SIGTERM for itself, and once taken they stay
//! so when the server has gone: the process would lose one test and go on with the next. So the first server brings a
//! listener that does what the signals did before, for the rest of the process.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::{io, process, thread};

use tokio::runtime;

/// Ends the process when it is told to end, from now on.
pub(crate) fn end_process_when_told() -> io::Result<()> {
    static LISTENING: Mutex<bool> = Mutex::new(false);
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if *listening {
        return Ok(());
    }
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let told = {
        let _context = runtime.enter();
        listen()?
    };
    // Not joined: it ends with the process, which it ends.
    thread::Builder::new()
        .name("live-server signals".to_owned())
        .spawn(move || process::exit(runtime.block_on(told)))?;
    *listening = true;
    Ok(())
}

/// Starts to listen. The future is the exit code that a shell reports for the signal: 128 and its number.
#[cfg(unix)]
fn listen() -> io::Result<impl Future<Output = i32> + Send + 'static> {
    use std::pin::pin;

    use futures_util::future::{Either, select};
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let signal = match select(pin!(interrupt.recv()), pin!(terminate.recv())).await {
            Either::Left(_) => SignalKind::interrupt(),
            Either::Right(_) => SignalKind::terminate(),
        };
        128 + signal.as_raw_value()
    })
}

/// Starts to listen. The future is the exit code of a process that was ended by Ctrl-C.
#[cfg(windows)]
fn listen() -> io::Result<impl Future<Output = i32> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        130
    })
}
