//! A server that answers anything, to which the sessions must be lost in good order.

use bytes::{BufMut, BytesMut};

use super::{Case, Run, record};
use crate::mux::message::{Message, backend as tag};

/// Some sessions as the first eight bytes have it, and a server that at some time goes on with the rest.
pub(in crate::mux) fn backend(data: &[u8]) {
    let Some((seed, rest)) = data.split_first_chunk() else {
        return;
    };
    let case = Case::generate(u64::from_le_bytes(*seed));
    let forged = record::stream(&TAGS, rest);
    if let Err(failure) = Run::new(&case).survive(forged) {
        panic!("{}\n{failure}", case.show());
    }
}

/// The types that a server's message can have.
pub(in crate::mux) const TAGS: [u8; 20] = [
    tag::READY_FOR_QUERY,
    tag::ERROR_RESPONSE,
    tag::COMMAND_COMPLETE,
    tag::BIND_COMPLETE,
    tag::PARSE_COMPLETE,
    tag::CLOSE_COMPLETE,
    tag::NO_DATA,
    tag::ROW_DESCRIPTION,
    tag::COPY_IN_RESPONSE,
    tag::EMPTY_QUERY_RESPONSE,
    tag::NOTICE_RESPONSE,
    tag::NOTIFICATION_RESPONSE,
    tag::PARAMETER_STATUS,
    tag::PORTAL_SUSPENDED,
    b'D',
    b'H',
    b'd',
    b'c',
    b't',
    b'V',
];

impl Run {
    /// Runs for a while as usual, then with what is forged, and checks what the clients are told in the end.
    fn survive(mut self, mut forged: BytesMut) -> Result<(), String> {
        for _ in 0..self.random.below(60) {
            match self.random.below(5) {
                0..=2 => drop(self.send()),
                3 => drop(self.serve()),
                _ => drop(self.answer()?),
            }
            self.drain();
        }
        let mut cause = "the connection has ended".to_owned();
        while !forged.is_empty() {
            if self.random.one_in(3) {
                self.send();
            } else {
                let count = 1 + self.random.below(forged.len());
                self.from_server.put(forged.split_to(count));
                if let Err(violation) = self.deliver() {
                    cause = violation;
                    break;
                }
            }
            self.drain();
        }
        self.mux.handle_backend_gone(&cause);
        self.drain();
        for client in &mut self.clients {
            let mut last = None;
            while let Some(message) =
                Message::take_backend(&mut client.received).map_err(|error| error.to_string())?
            {
                last = Some(message);
            }
            let is_told = last
                .as_ref()
                .is_some_and(|last| last.tag() == tag::ERROR_RESPONSE);
            let is_well = client.gone || client.closed && is_told;
            if !is_well {
                return Err(format!("{} is told last: {last:?}", client.id));
            }
        }
        Ok(())
    }
}
