//! Events for those who log: each statement that was answered, with the target `actix_shareddb::query`.
//!
//! They are emitted when no lock is held, because a subscriber may do anything, even use a client of the transaction.

use tracing::{Level, debug, enabled};

use super::record::{Answer, Origin, Recorder, Statement};

const TARGET: &str = "actix_shareddb::query";

/// What is yet to be told.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Up to which statement it was.
    told: u64,
}

impl Log {
    /// What was answered since the last time, if anybody wants to know.
    pub(super) fn take(&mut self, recorder: &Recorder) -> Vec<Statement> {
        let told = std::mem::replace(&mut self.told, recorder.next());
        if told == self.told || !enabled!(target: TARGET, Level::DEBUG) {
            return Vec::new();
        }
        recorder
            .answered_since(told)
            .filter(|statement| recorder.origin(statement.session) != Origin::Own)
            .cloned()
            .collect()
    }
}

pub(super) fn tell(statement: &Statement) {
    let (Some(sql), Some((answered, answer))) = (statement.own_text(), &statement.answer) else {
        return;
    };
    let text = String::from_utf8_lossy;
    let duration = answered.saturating_duration_since(statement.sent);
    let (session, sql) = (statement.session.0, text(&sql));
    match answer {
        Answer::Complete(tag) => {
            debug!(target: TARGET, session, ?duration, tag = &*text(tag), sql = &*sql);
        }
        Answer::Failed { code, message } => {
            let (code, message) = (text(code), text(message));
            debug!(target: TARGET, session, ?duration, sqlstate = &*code, error = &*message, sql = &*sql);
        }
    }
}
