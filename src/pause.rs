//! Stop and look: a test that has failed waits before it takes anything back.
//!
//! With `ACTIX_SHAREDDB_ON_FAILURE=pause` its transaction, or its database, and its server stay as they are, and both
//! addresses are printed, past the test harness that keeps a test's output to itself. A line on standard input goes on, or,
//! where there is no terminal, SIGUSR1; then the test ends as always.

use std::future::pending;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::pin::pin;
use std::thread;

use futures_util::future::select;
use tokio::sync::oneshot;

use crate::{Isolation, LiveServer};

/// Says where the test can be looked at, and waits until it may go on.
pub(crate) async fn until_told(name: &str, story: &str, live: &LiveServer) {
    // One at a time: there is one standard input.
    static PAUSED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _paused = PAUSED.lock().await;
    let database = match live.database_url_to_show() {
        Ok(url) => format!("psql {}", quoted(&url)),
        Err(error) => format!("(none: {error})"),
    };
    let (what, end) = match live.isolation() {
        Isolation::Transaction => ("its transaction:", ", and is rolled back"),
        Isolation::Database => ("its database:   ", ""),
    };
    // From before anybody is told of the signal, which would end the process where nobody listens.
    let signalled = signalled();
    say(&format!(
        "\n{story}\nthe test '{name}' has failed and waits\n  \
         its server:      {}\n  \
         {what} {database}\n  \
         to go on:        {}\n",
        live.url("/"),
        how_to_go_on(),
    ));
    select(pin!(entered()), pin!(signalled)).await;
    say(&format!("it goes on{end}\n"));
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Past the harness, which captures only what is printed by macros.
fn say(words: &str) {
    let mut stderr = io::stderr().lock();
    // There is nobody else to tell that nobody can be told.
    let _ = stderr.write_all(words.as_bytes());
    let _ = stderr.flush();
}

fn how_to_go_on() -> String {
    let enter = io::stdin().is_terminal().then(|| "press Enter".to_owned());
    let kill = cfg!(unix).then(|| format!("kill -USR1 {}", std::process::id()));
    let ways: Vec<_> = enter.into_iter().chain(kill).collect();
    match &ways[..] {
        [] => "a line on its standard input".to_owned(),
        ways => ways.join(", or "),
    }
}

async fn entered() {
    let (line, read) = oneshot::channel();
    // Not joined: nothing but a line ends it, and it holds nothing.
    let spawned = thread::Builder::new()
        .name("live-server pause".to_owned())
        .spawn(move || {
            let mut text = String::new();
            let length = io::stdin().lock().read_line(&mut text);
            // The end of an input that nobody types isn't a line.
            if length.is_ok_and(|length| length > 0) {
                let _ = line.send(());
            }
        });
    if spawned.is_err() || read.await.is_err() {
        pending::<()>().await;
    }
}

/// Ends at a signal that is sent from now on, whether or not it is awaited already.
#[cfg(unix)]
fn signalled() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signal = signal(SignalKind::user_defined1());
    async {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => pending().await,
        }
    }
}

#[cfg(not(unix))]
fn signalled() -> impl Future<Output = ()> {
    pending()
}
