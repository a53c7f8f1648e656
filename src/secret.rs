//! Secrets that live as long as a test: a session's cancel key, the password of a socket.
//!
//! They come from [`RandomState`], the only source of randomness that std has. Its keys are seeded from the operating
//! system's secure source, and SipHash with keys that nobody knows is a pseudorandom function: who hasn't seen the keys
//! can't tell its values from random ones. That suffices against other users of the same machine, who can do no more
//! than guess while the test runs; it is no substitute for a generator of long-lived keys.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// A session's secret key, as BackendKeyData tells it: of 32 bits, or of 256 for who speaks a protocol that has them.
pub(crate) fn key(is_long: bool) -> Bytes {
    let state = RandomState::new();
    let key: Vec<u8> = (0..4)
        .flat_map(|part| state.hash_one(part).to_be_bytes())
        .collect();
    match is_long {
        true => key.into(),
        false => Bytes::copy_from_slice(&key[..4]),
    }
}

/// A password of 128 bits, in characters that need no quoting anywhere.
pub(crate) fn password() -> String {
    let state = RandomState::new();
    format!(
        "{:016x}{:016x}",
        state.hash_one("head"),
        state.hash_one("tail")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_passwords_are_the_same() {
        let passwords: HashSet<_> = (0..1000).map(|_| password()).collect();
        assert_eq!(passwords.len(), 1000);
        assert!(passwords.iter().all(|password| password.len() == 32));
    }

    #[test]
    fn keys_differ() {
        // 32 bits collide now and then; all of a hundred never do.
        let keys: HashSet<_> = (0..100).map(|_| key(false)).collect();
        assert!(keys.len() > 90, "{keys:?}");
        let keys: HashSet<_> = (0..100).map(|_| key(true)).collect();
        assert_eq!(keys.len(), 100);
        assert!(keys.iter().all(|key| key.len() == 32));
    }
}
