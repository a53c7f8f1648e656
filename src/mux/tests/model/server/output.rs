//! What the model of a server says.

use bytes::{BufMut, BytesMut};

use super::{Server, Transaction};
use crate::mux::message::Message;
use crate::mux::message::to_session::{self, Report};

impl Server {
    pub(super) fn warn(&mut self, code: &'static str, text: &str) {
        self.report(b'N', &Report::warning(code, text), None);
    }

    pub(super) fn report(&mut self, tag: u8, report: &Report, routine: Option<&str>) {
        let mut body = BytesMut::new();
        let fields = [
            (b'S', report.severity),
            (b'V', report.severity),
            (b'C', report.code),
            (b'M', &report.message),
            (b'R', routine.unwrap_or("model")),
        ];
        for (code, value) in fields {
            body.put_u8(code);
            body.put_slice(value.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        self.put(tag, &body);
        self.flush();
    }

    pub(super) fn describe_row(&mut self) {
        self.put(b'T', b"number\0");
    }

    pub(super) fn row(&mut self, value: &str) {
        self.put(b'D', format!("{value}\0").as_bytes());
    }

    pub(super) fn ask_for_data(&mut self) {
        self.put(b'G', &[0, 0, 0]);
        self.flush();
    }

    pub(super) fn complete(&mut self, tag: &str) {
        let message = to_session::command_complete(tag);
        self.unsent.put_slice(message.frame());
    }

    /// ReadyForQuery, and before it what was notified.
    pub(super) fn ready(&mut self) {
        let status = match self.transaction {
            Transaction::Block => b'T',
            Transaction::Failed => b'E',
            _ => b'I',
        };
        if status == b'I' {
            for (channel, payload) in std::mem::take(&mut self.undelivered) {
                let (channel, payload) = (channel.as_bytes(), payload.as_bytes());
                let message = to_session::notification_response(self.process, channel, payload);
                self.unsent.put_slice(message.frame());
            }
        }
        self.put(b'Z', &[status]);
        self.flush();
    }

    pub(super) fn put(&mut self, tag: u8, body: &[u8]) {
        let message = Message::build(tag, |frame| frame.put_slice(body));
        self.unsent.put_slice(message.frame());
    }

    pub(super) fn flush(&mut self) {
        let bytes = self.unsent.split();
        self.sent.put_slice(&bytes);
    }
}
