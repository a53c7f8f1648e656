//! What a backend keeps for its session and can't keep for several: temporary tables and advisory locks.
//!
//! It can only be given up as a whole. So whoever gives up what is his (`DISCARD TEMP`, `pg_advisory_unlock_all()`) gets
//! the answer, and it is done if nobody else can have any. What a session has left behind when it ended is given up when
//! nobody else can have any either.

use std::collections::BTreeSet;

use super::command::{Command, Discard};
use super::session::SessionId;

/// Which sessions have sent a text that speaks of the like. Too many do no harm.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    temporary: BTreeSet<SessionId>,
    advisory: BTreeSet<SessionId>,
    /// What those have left that have ended.
    orphans: Orphans,
    /// What a batch that has its turn is about to give up of that.
    pending: Orphans,
    /// Whether a temporary table was given up: a checkpoint that knew it brings it back.
    may_come_back: bool,
}

/// What belongs to nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Orphans {
    temporary: bool,
    advisory: bool,
}

impl Belongings {
    /// A session has sent this text, which is or holds these commands.
    pub(super) fn note(&mut self, id: SessionId, command: &Command, statement: &[u8]) {
        let is_about_all = matches!(command, Command::Discard(_) | Command::UnlockAll);
        if is_about_all {
            return;
        }
        if !self.temporary.contains(&id) && speaks_of_temporary(statement) {
            self.temporary.insert(id);
        }
        if !self.advisory.contains(&id) && mentions(statement, b"advisory") {
            self.advisory.insert(id);
        }
    }

    /// A session has ended.
    pub(super) fn leave(&mut self, id: SessionId) {
        self.orphans.temporary |= self.temporary.remove(&id);
        self.orphans.advisory |= self.advisory.remove(&id);
    }

    /// Whether a batch that has its turn now is to give anything up.
    pub(super) fn has_orphans(&self) -> bool {
        self.can_be_given_up() != Orphans::default()
    }

    fn can_be_given_up(&self) -> Orphans {
        Orphans {
            temporary: self.orphans.temporary && self.temporary.is_empty(),
            advisory: self.orphans.advisory && self.advisory.is_empty(),
        }
    }

    /// A batch has its turn: what gives up what those have left that have ended, before anything of it is run.
    pub(super) fn give_up_orphans(&mut self) -> Option<String> {
        if self.pending != Orphans::default() {
            return None;
        }
        let gives_up = self.can_be_given_up();
        if gives_up == Orphans::default() {
            return None;
        }
        let steps = gives_up.steps();
        self.orphans.temporary &= !gives_up.temporary;
        self.orphans.advisory &= !gives_up.advisory;
        self.pending = gives_up;
        Some(format!(
            "DO $actix_shareddb$ BEGIN {steps}EXCEPTION WHEN others THEN NULL; END $actix_shareddb$"
        ))
    }

    /// That is sent, where no rollback of a client's reaches it.
    pub(super) fn gave_up(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.may_come_back |= pending.temporary;
    }

    /// The batch is over, and that wasn't sent.
    pub(super) fn still_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.orphans.temporary |= pending.temporary;
        self.orphans.advisory |= pending.advisory;
    }

    /// A checkpoint was restored. A lock that was given up stays so.
    pub(super) fn restored(&mut self) {
        self.orphans.temporary |= self.may_come_back;
    }

    /// Whether somebody else may hold advisory locks.
    pub(super) fn others_may_lock(&self, id: SessionId) -> bool {
        self.advisory.iter().any(|&other| other != id)
    }

    /// What a statement gives up that is only this session's.
    pub(super) fn gives_up(&self, id: SessionId, command: &Command) -> String {
        let is_own = |sessions: &BTreeSet<SessionId>| sessions.iter().eq([&id]);
        let (temporary, advisory) = match command {
            Command::Discard(Discard::Temp) => (is_own(&self.temporary), false),
            Command::Discard(Discard::All) => (is_own(&self.temporary), is_own(&self.advisory)),
            _ => (false, false),
        };
        Orphans {
            temporary,
            advisory,
        }
        .steps()
    }
}

impl Orphans {
    /// What gives these up.
    fn steps(self) -> String {
        let mut steps = String::new();
        if self.temporary {
            steps += "EXECUTE 'DISCARD TEMP'; ";
        }
        if self.advisory {
            steps += "PERFORM pg_catalog.pg_advisory_unlock_all(); ";
        }
        steps
    }
}

/// Whether a text, or a text within it, may create something temporary. `attempts` and `template` don't.
fn speaks_of_temporary(text: &[u8]) -> bool {
    let is_in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    text.split(|byte| !is_in_word(byte)).any(|word| {
        word.eq_ignore_ascii_case(b"temp")
            || word.eq_ignore_ascii_case(b"temporary")
            || word
                .get(..7)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
    })
}

/// Whether a text holds a word, or a part of one, in whatever case.
pub(super) fn mentions(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_given_up_when_nobody_else_can_have_any() {
        let (a, b) = (SessionId(1), SessionId(2));
        let mut belongings = Belongings::default();
        belongings.note(a, &Command::Other, b"CREATE TEMP TABLE x ()");
        belongings.note(b, &Command::Other, b"CREATE TEMP TABLE y ()");
        belongings.leave(a);
        assert_eq!(belongings.give_up_orphans(), None);
        belongings.leave(b);
        assert!(
            belongings
                .give_up_orphans()
                .unwrap()
                .contains("DISCARD TEMP")
        );
        assert_eq!(belongings.give_up_orphans(), None);
        belongings.still_pending();
        assert!(belongings.give_up_orphans().is_some());
        belongings.gave_up();
        assert_eq!(belongings.give_up_orphans(), None);
    }

    #[test]
    fn what_a_checkpoint_brings_back_is_given_up_again() {
        let a = SessionId(1);
        let mut belongings = Belongings::default();
        belongings.restored();
        assert!(!belongings.has_orphans());
        belongings.note(a, &Command::Other, b"CREATE TEMP TABLE x ()");
        belongings.leave(a);
        assert!(belongings.give_up_orphans().is_some());
        belongings.gave_up();
        assert!(!belongings.has_orphans());
        belongings.restored();
        assert!(belongings.has_orphans());
    }

    #[test]
    fn what_may_be_anothers_is_not_given_up() {
        let (a, b) = (SessionId(1), SessionId(2));
        let all = Command::Discard(Discard::All);
        let mut belongings = Belongings::default();
        assert_eq!(belongings.gives_up(a, &all), "");
        belongings.note(a, &Command::Other, b"SELECT pg_Advisory_lock(1)");
        belongings.note(a, &Command::Other, b"CREATE TEMPORARY TABLE x ()");
        belongings.note(b, &Command::UnlockAll, b"SELECT pg_advisory_unlock_all()");
        belongings.note(b, &Command::Discard(Discard::Temp), b"DISCARD TEMP");
        assert_eq!(belongings.gives_up(b, &all), "");
        assert!(belongings.others_may_lock(b) && !belongings.others_may_lock(a));
        let temporary = "EXECUTE 'DISCARD TEMP'; ";
        let both = format!("{temporary}PERFORM pg_catalog.pg_advisory_unlock_all(); ");
        assert_eq!(belongings.gives_up(a, &all), both);
        belongings.note(b, &Command::Other, b"SELECT pg_try_advisory_lock(1)");
        assert_eq!(belongings.gives_up(a, &all), temporary);
        assert_eq!(belongings.gives_up(a, &Command::ResetAll), "");
    }

    #[test]
    fn a_part_of_a_word_is_nothing_temporary() {
        for (text, expected) in [
            (&b"CREATE TEMP TABLE x ()"[..], true),
            (b"SELECT 1 INTO Temporary x", true),
            (b"CREATE TABLE pg_temp.x ()", true),
            (b"DO $$CREATE TEMP VIEW x AS SELECT 1$$", true),
            (b"EXECUTE 'TEMP'", true),
            (b"UPDATE t SET attempts = attempts + 1", false),
            (b"SELECT * FROM template, temps, temp_x", false),
            ("SELECT température".as_bytes(), false),
            (b"", false),
        ] {
            let text_of_it = String::from_utf8_lossy(text);
            assert_eq!(speaks_of_temporary(text), expected, "{text_of_it}");
        }
    }
}
