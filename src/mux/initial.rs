//! What a session starts with: the settings that its client asked for when it connected, to which RESET goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::session::SessionId;

/// What a client asked for when it connected, as the server has accepted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Initial {
    /// What the server reports of a session that starts so.
    pub(crate) parameters: Vec<(String, String)>,
    /// Settings, by names in lower case, with their values as the server writes them.
    pub(crate) settings: Vec<(String, String)>,
}

impl Initial {
    fn value(&self, name: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        settings
            .find(|(known, _)| known == name)
            .map(|(_, value)| &value[..])
    }
}

/// What the sessions started with, as far as that isn't what the backend did.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts {
    /// What was set for all of them.
    base: Initial,
    sessions: BTreeMap<SessionId, Start>,
}

#[derive(Clone, Debug)]
struct Start {
    initial: Arc<Initial>,
    /// The session may have set something since.
    has_set: bool,
}

impl Starts {
    pub(super) fn set_for_all(&mut self, name: &str, value: &str) {
        let setting = (name.to_owned(), value.to_owned());
        self.base.settings.push(setting);
    }

    pub(super) fn begin(&mut self, id: SessionId, initial: Arc<Initial>) {
        let has_set = false;
        self.sessions.insert(id, Start { initial, has_set });
    }

    /// All of them, with the names of what they started with.
    pub(super) fn names(&self) -> impl Iterator<Item = (SessionId, &str)> {
        let all = self.sessions.iter();
        all.flat_map(|(&id, start)| {
            let settings = start.initial.settings.iter();
            settings.map(move |(name, _)| (id, &name[..]))
        })
    }

    pub(super) fn end(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    pub(super) fn sets_any(&self, id: SessionId) -> bool {
        let start = self.sessions.get(&id);
        start.is_some_and(|start| !start.initial.settings.is_empty())
    }

    pub(super) fn note_set(&mut self, id: SessionId) {
        if let Some(start) = self.sessions.get_mut(&id) {
            start.has_set = true;
        }
    }

    /// The value to which RESET sets this back in a session, if the backend wouldn't.
    pub(super) fn value(&self, id: SessionId, name: &str) -> Option<&str> {
        let own = self.sessions.get(&id);
        own.and_then(|start| start.initial.value(name))
            .or_else(|| self.base_value(name))
    }

    /// The same for a session that asked for nothing.
    pub(super) fn base_value(&self, name: &str) -> Option<&str> {
        self.base.value(name)
    }

    /// Whether two sessions have the same settings, because both have those that they started with.
    pub(super) fn are_alike(&self, one: SessionId, other: SessionId) -> bool {
        match (self.sessions.get(&one), self.sessions.get(&other)) {
            (Some(one), Some(other)) => {
                !one.has_set && !other.has_set && Arc::ptr_eq(&one.initial, &other.initial)
            }
            _ => false,
        }
    }
}
