//! Remembers the panics of a server under test, so that the test's failure can show them.
//!
//! A panic in a handler is caught by actix on a worker thread, and all that the test's client sees is a closed
//! connection. What joins the two is the actix [`System`]: every worker of a server belongs to the `System` that the
//! server was started in, and each test starts its server in a `System` of its own.
//!
//! A thread of `web::block` belongs to no `System`, so a panic there is shown by the panic hook alone.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use actix_web::rt::System;

/// The panics of one server, in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct PanicLog(Arc<Mutex<Vec<String>>>);

impl PanicLog {
    /// Records what panics on the threads of the current `System`, for as long as the guard lives.
    pub(crate) fn watch_current_system(&self) -> Watch {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                record(info);
                previous(info);
            }));
        });

        let system = System::current().id();
        lock(&WATCHED).insert(system, self.clone());
        Watch { system }
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}

/// Ends the recording when it is dropped.
#[must_use = "nothing is recorded once the guard is dropped"]
#[derive(Debug)]
pub(crate) struct Watch {
    system: usize,
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&WATCHED).remove(&self.system);
    }
}

/// The words of a panic's payload; those of `panic!` are always a string.
pub(crate) fn words(payload: &dyn Any) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a payload that is no string)")
}

fn record(info: &PanicHookInfo<'_>) {
    let Some(system) = System::try_current() else {
        return;
    };
    let Some(log) = lock(&WATCHED).get(&system.id()).cloned() else {
        return;
    };
    let payload = words(info.payload());
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let entry = match info.location() {
        Some(location) => format!("thread '{name}' panicked at {location}:\n{payload}"),
        None => format!("thread '{name}' panicked:\n{payload}"),
    };
    lock(&log.0).push(entry);
}

/// A panic elsewhere is exactly what this module is for, so a poisoned lock is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The logs of the servers that run now, by the id of their `System`.
static WATCHED: Mutex<BTreeMap<usize, PanicLog>> = Mutex::new(BTreeMap::new());
