//! A client that may send anything, among sessions that must not notice.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Case, Run, record};
use crate::mux::SessionId;
use crate::mux::message::{Message, frontend};

/// Where the others' rows are, which a stranger mustn't hit upon: what it writes there they would see.
const SECRET: usize = 7_391_846;

/// The stranger's end of its connection.
pub(super) struct Stranger {
    id: SessionId,
    to_send: Bytes,
    /// What it has sent of a message that isn't whole yet.
    partial: BytesMut,
    violates: bool,
    gone: bool,
    pub(super) closed: bool,
    pub(super) received: BytesMut,
}

/// Some sessions as the first eight bytes have it, and one that sends the rest.
pub(in crate::mux) fn frontend(data: &[u8]) {
    let Some((seed, rest)) = data.split_first_chunk() else {
        return;
    };
    let to_send = record::stream(&TAGS, rest).freeze();
    let secret = SECRET.to_string();
    if to_send
        .windows(secret.len())
        .any(|text| text == secret.as_bytes())
    {
        return;
    }
    let case = Case::generate_at(u64::from_le_bytes(*seed), SECRET);
    let mut run = Run::new(&case);
    run.admit(to_send.clone());
    if let Err(failure) = run.finish() {
        let mut bytes = BytesMut::from(&to_send[..]);
        let mut sent = Vec::new();
        while let Ok(Some(message)) = Message::take_frontend(&mut bytes) {
            sent.push(format!("{message:?}"));
        }
        panic!(
            "{}stranger: {}, and then {bytes:?}\n{failure}",
            case.show(),
            sent.join(" | ")
        );
    }
}

/// The types that a client's message can have.
pub(in crate::mux) const TAGS: [u8; 13] = [
    frontend::QUERY,
    frontend::PARSE,
    frontend::BIND,
    frontend::DESCRIBE,
    frontend::EXECUTE,
    frontend::SYNC,
    frontend::CLOSE,
    frontend::FLUSH,
    frontend::COPY_DATA,
    frontend::COPY_DONE,
    frontend::COPY_FAIL,
    frontend::FUNCTION_CALL,
    frontend::TERMINATE,
];

impl Run {
    fn admit(&mut self, to_send: Bytes) {
        let id = self.mux.handle_connect();
        let key = self.random.one_in(2).then_some(super::SECRET_KEY);
        self.mux.handle_startup(id, "stranger", key, None);
        self.stranger = Some(Stranger {
            id,
            to_send,
            partial: BytesMut::new(),
            violates: false,
            gone: false,
            closed: false,
            received: BytesMut::new(),
        });
        while self.mux.poll_transmit().is_some() {}
    }

    /// Some of the stranger's bytes come in, or it goes.
    pub(super) fn intrude(&mut self) -> bool {
        let Some(stranger) = self.stranger.as_mut().filter(|stranger| !stranger.gone) else {
            return false;
        };
        if stranger.violates {
            // It listens, to the end.
            return false;
        }
        if stranger.to_send.is_empty() {
            stranger.gone = true;
            self.mux.handle_disconnect(stranger.id, self.now);
            return true;
        }
        let count = 1 + self.random.below(stranger.to_send.len());
        stranger.partial.put(stranger.to_send.split_to(count));
        while !stranger.violates {
            match Message::take_frontend(&mut stranger.partial) {
                Ok(Some(message)) => {
                    stranger.gone |= message.tag() == frontend::TERMINATE;
                    self.mux.handle_frontend(stranger.id, message, self.now);
                }
                Ok(None) => break,
                Err(violation) => {
                    stranger.violates = true;
                    self.mux.handle_violation(stranger.id, &violation, self.now);
                }
            }
        }
        true
    }

    /// What the stranger was told is well-formed, and its last words are about what it did wrong.
    pub(super) fn check_stranger(&mut self) -> Result<(), String> {
        let Some(stranger) = &mut self.stranger else {
            return Ok(());
        };
        let mut last = None;
        while let Some(message) =
            Message::take_backend(&mut stranger.received).expect("what is sent is well-formed")
        {
            last = Some(message);
        }
        let is_farewell = last
            .as_ref()
            .is_some_and(|last| last.error_field(b'V').as_deref() == Some(b"FATAL"));
        let is_told = is_farewell && stranger.closed;
        match stranger.violates && !stranger.gone && !is_told {
            true => Err(format!("the stranger's last words: {last:?}")),
            false => Ok(()),
        }
    }
}
