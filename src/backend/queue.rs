//! The wait for a server that has as many connections as it allows.
//!
//! Its limit is shared by everybody who uses it, other test processes and other machines among them, so there is nobody
//! to ask for a turn: whoever finds it full comes back a little later.

use std::error::Error as StdError;
use std::hash::{BuildHasher, RandomState};
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
        if self.pause().await {
            return Ok(());
        }
        // Who didn't want to wait has nothing to be told of it.
        if self.patience.is_zero() {
            return Err(error);
        }
        let event = format!(
            "the server has had no connection to spare for {:?}",
            self.patience
        );
        Err(error.during(event).help(
            "raise max_connections of the server; run fewer tests at a time (--test-threads), each of which takes one \
             connection for each of its databases; or let them wait longer (Config::connection_limit_timeout)",
        ))
    }

    /// Waits a moment, unless that has been done for long enough, and says so.
    pub(crate) async fn pause(&mut self) -> bool {
        let left = self.patience.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return false;
        }
        // Not in step with others that were refused at the same time.
        let dice = RandomState::new().hash_one(()) % 100;
        let pause = self.pause * (50 + dice as u32) / 100;
        sleep(pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// Whether the server, the database or the role has as many connections as it may have.
pub(crate) fn says_full(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
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
