//! The wait for a server that has as many connections as it allows.
//!
//! Its limit is shared by everybody who uses it, other test processes and other machines among them, so there is nobody
//! to ask for a turn: whoever finds it full comes back a little later.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::error::{DbError, SqlState};

use crate::error::{Error, Result};

/// One who wants a connection.
pub(crate) struct Queue {
    patience: Duration,
    since: Instant,
    pause: Duration,
}

impl Queue {
    /// Begins to wait, for so long at most.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            pause: FIRST_PAUSE,
        }
    }

    /// Makes room and waits a moment, after an error that says that the server is full. Any other error is given back, and
    /// so is this one in the end.
    pub(crate) async fn wait(&mut self, error: Error, make_room: impl FnOnce()) -> Result<()> {
        if !says_full(&error) {
            return Err(error);
        }
        make_room();
        let left = self.patience.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            let event = format!(
                "the server has had no connection to spare for {:?}",
                self.patience
            );
            return Err(error.during(event).help(
                "raise max_connections of the server; run fewer tests at a time (--test-threads), each of which takes one \
                 connection; or let them wait longer (Config::connection_limit_timeout)",
            ));
        }
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Whether the server, the database or the role has as many connections as it may have.
fn says_full(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(said) = error.downcast_ref::<DbError>() {
            return *said.code() == SqlState::TOO_MANY_CONNECTIONS;
        }
        cause = error.source();
    }
    false
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
