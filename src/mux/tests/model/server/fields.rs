//! How the model of a server reads a message, which may hold anything: in PostgreSQL's order, and with its errors.

use bytes::Bytes;

use super::error;
use crate::mux::message::to_session::Report;
use crate::mux::message::{Fields, Message};

pub(super) struct Reader(Option<Fields>);

impl Reader {
    pub(super) fn of(message: &Message) -> Self {
        Self(Some(message.fields()))
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Fields) -> Option<T>,
        what: &str,
    ) -> Result<T, Report> {
        match self.0.as_mut().and_then(read) {
            Some(value) => Ok(value),
            None => error("08P01", what),
        }
    }

    pub(super) fn string(&mut self) -> Result<Bytes, Report> {
        self.read(Fields::string, "invalid string in message")
    }

    pub(super) fn byte(&mut self) -> Result<u8, Report> {
        self.read(Fields::byte, "no data left in message")
    }

    pub(super) fn short(&mut self) -> Result<u16, Report> {
        self.read(Fields::short, "insufficient data left in message")
    }

    pub(super) fn int(&mut self) -> Result<i32, Report> {
        self.read(Fields::int, "insufficient data left in message")
    }

    /// A value with its length before it.
    pub(super) fn value(&mut self) -> Result<Bytes, Report> {
        let length = usize::try_from(self.int()?).unwrap_or_default();
        let bytes = (0..length).map(|_| self.byte().map_err(|_| short_of_data()));
        let bytes: Result<Vec<u8>, _> = bytes.collect();
        bytes.map(Bytes::from)
    }

    pub(super) fn end(&mut self) -> Result<(), Report> {
        match self.0.take().map(Fields::rest) {
            Some(rest) if rest.is_empty() => Ok(()),
            _ => error("08P01", "invalid message format"),
        }
    }
}

fn short_of_data() -> Report {
    Report::error("08P01", "insufficient data left in message")
}
