//! What a test that has failed tells of itself: its HTTP exchanges with their statements, and who was in the middle of what.

use super::print::{self, Colours};
use super::{Queries, Recording};

/// How many statements and exchanges are told of; those before are what the test had got right.
const LATEST: usize = 100;

impl Recording {
    /// Empty if nothing has happened.
    pub(crate) fn story(&self, colours: Colours) -> String {
        let mut queries = self.so_far();
        shorten(&mut queries);
        let mut story = String::new();
        let groups = print::groups(&queries, colours);
        if !groups.is_empty() {
            story = format!("what the test did, and its SQL:\n\n{groups}");
        }
        let picture = self.picture();
        if !picture.is_empty() {
            let separator = if story.is_empty() { "" } else { "\n" };
            story += &format!("{separator}when it failed:\n\n");
            for line in picture {
                story += &format!("      {line}\n");
            }
        }
        story
    }
}

fn shorten(queries: &mut Queries) {
    let excess = queries.list.len().saturating_sub(LATEST);
    queries.list.drain(..excess);
    queries.dropped += u64::try_from(excess).unwrap_or(u64::MAX);
    let excess = queries.exchanges.len().saturating_sub(LATEST);
    queries.exchanges.drain(..excess);
}
