//! What became of a test: the failures of its life in the order in which they happened, and how they are told.

use std::any::Any;
use std::fmt::{Debug, Write as _};
use std::panic;

use crate::panics::{self, PanicLog};
use crate::queries::{Colours, Recording};
use crate::{Config, Error};

/// What a live-server test may return.
#[diagnostic::on_unimplemented(
    message = "a live-server test returns `()` or `Result<(), E>`, not `{Self}`",
    label = "this return type says neither that the test passed nor that it failed",
    note = "`E` is any type that implements `Debug`"
)]
pub trait Outcome {
    /// The words of the error, if there is one.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Debug> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// One thing that went wrong.
pub(crate) enum Failure {
    /// What went wrong, in words.
    Error(String),
    /// The payload of a panic, which has been shown by the panic hook already.
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    /// An error, and the part of the test's life that it comes from.
    pub(crate) fn new(event: &str, error: impl Debug) -> Self {
        Self::Error(format!("{event}: {error:?}"))
    }

    fn words(&self) -> &str {
        match self {
            Self::Error(words) => words,
            Self::Panic(payload) => panics::words(payload.as_ref()),
        }
    }
}

/// The failures of one test.
#[derive(Default)]
pub(crate) struct Verdict {
    failures: Vec<Failure>,
    told: Vec<String>,
    panics: PanicLog,
    recording: Option<Recording>,
    story: Option<String>,
}

impl Verdict {
    /// Where the panics of the test's server are recorded.
    pub(crate) fn panics(&self) -> &PanicLog {
        &self.panics
    }

    /// Notes how a part of the test's life went.
    pub(crate) fn note(&mut self, result: Result<(), Failure>) {
        self.failures.extend(result.err());
    }

    /// From now on there is something to tell of the test.
    pub(crate) fn watch(&mut self, recording: &Recording) {
        self.recording = Some(recording.clone());
    }

    /// If something went wrong, keeps the story as it is now, before it goes on.
    pub(crate) fn tell_story(&mut self) {
        if let Some(recording) = &self.recording
            && !self.is_clean()
            && self.story.is_none()
        {
            self.story = Some(recording.story(Colours::of_stderr()));
        }
    }

    /// What there is to tell of a test that has failed. Nothing, if nobody saw what it did.
    pub(crate) fn story(&self) -> &str {
        self.story.as_deref().unwrap_or_default()
    }

    /// Tells of what is likely to be a mistake of the application, or fails the test, as the configuration has it.
    pub(crate) fn look_for_causes(&mut self, config: &Config) {
        let Some(recording) = &self.recording else {
            if config.looks_for_causes() {
                print(UNSEEN);
            }
            return;
        };
        let causes = recording.causes(|hint| config.hints(hint) || config.denies(hint));
        for cause in causes {
            if config.denies(cause.hint) {
                self.failures
                    .push(Failure::Error(format!("denied, {cause}")));
            } else {
                print(&format!("hint, {cause}"));
            }
        }
    }

    /// A test with faults that nothing has met fails, if only for that.
    pub(crate) fn note_unmet(&mut self, error: &Error) {
        match self.is_clean() {
            true => self.failures.push(Failure::Error(format!("{error:?}"))),
            false => self.tell(error.to_string()),
        }
    }

    /// Tells something along with the failure.
    pub(crate) fn tell(&mut self, words: String) {
        self.told.push(words);
    }

    /// Whether all is well so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Fails the test with its first failure, unless there is none.
    ///
    /// A panic goes on with the payload that it had, for `#[should_panic(expected)]` to find. What else went wrong,
    /// and what panicked in the server, is told along with it, on the test's own thread: that is where the test
    /// harness captures output. The story comes last.
    #[track_caller]
    pub(crate) fn pronounce(mut self) {
        self.tell_story();
        let _last = Last(self.story.take().unwrap_or_default());
        let notes = self.notes();
        match self.failures.into_iter().next() {
            None => {}
            Some(Failure::Error(words)) => panic!("{words}{notes}"),
            Some(Failure::Panic(payload)) => {
                print(notes.trim_start());
                panic::resume_unwind(payload)
            }
        }
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        for failure in self.failures.iter().skip(1) {
            let _ = write!(notes, "\nalso, {}", indented(failure.words()));
        }
        for entry in self.panics.entries() {
            let _ = write!(notes, "\nin the server, {}", indented(&entry));
        }
        for words in &self.told {
            let _ = write!(notes, "\n{words}");
        }
        notes
    }
}

/// What is done on plain connections isn't seen. That a test fails on it would keep a suite from being run in databases.
const UNSEEN: &str = "Config::hint and Config::deny look for nothing in this test: they need a shared transaction, and it \
     has a database of its own";

/// Is printed when the panic's own message has been.
struct Last(String);

impl Drop for Last {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            print(&format!("\n{}", self.0));
        }
    }
}

fn indented(words: &str) -> String {
    words.replace('\n', "\n  ")
}

#[expect(
    clippy::print_stderr,
    reason = "a panic's payload can't be added to, and standard error is what the test harness shows beside it"
)]
fn print(notes: &str) {
    if !notes.is_empty() {
        eprintln!("{notes}");
    }
}
