//! Statements and portals that are to be closed on the backend, at the next opportunity.

use bytes::{BufMut, Bytes, BytesMut};

use super::message::to_backend;

/// Closes that ride along with the next batch, whosever that is.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    frames: BytesMut,
    count: usize,
}

impl Garbage {
    pub(super) fn close_statement(&mut self, name: &[u8]) {
        self.close(b'S', name);
    }

    pub(super) fn close_portal(&mut self, name: &[u8]) {
        self.close(b'P', name);
    }

    fn close(&mut self, kind: u8, name: &[u8]) {
        self.frames.put_slice(to_backend::close(kind, name).frame());
        self.count += 1;
    }

    /// The messages to send, and how many of them there are.
    pub(super) fn take(&mut self) -> (Bytes, usize) {
        (
            self.frames.split().freeze(),
            std::mem::take(&mut self.count),
        )
    }
}
