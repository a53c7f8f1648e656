//! Framing: where one protocol message ends and the next begins, and the few fields that are looked at.
//!
//! A message is kept as the frame that came over the wire, so passing it on costs no copy of its contents. Message and
//! field names, tags and limits are those of PostgreSQL's protocol chapter and of `pqcomm`/`postgres.c`.

mod startup;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(crate) use self::startup::{MINOR, PROTOCOL_3_0, Startup, parameter, unsupported};

/// Tags of the messages that a client sends.
pub(crate) mod frontend {
    pub(crate) const BIND: u8 = b'B';
    pub(crate) const CLOSE: u8 = b'C';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const COPY_FAIL: u8 = b'f';
    pub(crate) const DESCRIBE: u8 = b'D';
    pub(crate) const EXECUTE: u8 = b'E';
    pub(crate) const FLUSH: u8 = b'H';
    pub(crate) const FUNCTION_CALL: u8 = b'F';
    pub(crate) const PARSE: u8 = b'P';
    pub(crate) const QUERY: u8 = b'Q';
    pub(crate) const SYNC: u8 = b'S';
    pub(crate) const TERMINATE: u8 = b'X';

    pub(super) const ALL: &[u8] = &[
        BIND,
        CLOSE,
        COPY_DATA,
        COPY_DONE,
        COPY_FAIL,
        DESCRIBE,
        EXECUTE,
        FLUSH,
        FUNCTION_CALL,
        PARSE,
        QUERY,
        SYNC,
        TERMINATE,
    ];
}

/// Tags of the messages that the backend sends.
pub(crate) mod backend {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const BIND_COMPLETE: u8 = b'2';
    pub(crate) const CLOSE_COMPLETE: u8 = b'3';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const COPY_IN_RESPONSE: u8 = b'G';
    pub(crate) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(crate) const ERROR_RESPONSE: u8 = b'E';
    pub(crate) const NO_DATA: u8 = b'n';
    pub(crate) const NOTICE_RESPONSE: u8 = b'N';
    pub(crate) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(crate) const PARAMETER_DESCRIPTION: u8 = b't';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const PARSE_COMPLETE: u8 = b'1';
    pub(crate) const PORTAL_SUSPENDED: u8 = b's';
    pub(crate) const READY_FOR_QUERY: u8 = b'Z';
    pub(crate) const ROW_DESCRIPTION: u8 = b'T';
}

/// The longest message that a client may send: less than what PostgreSQL accepts (`PQ_LARGE_MESSAGE_LIMIT`, 0x3ffffffe),
/// which would end the connection of all, because what is sent for it has longer names.
const LARGE_MESSAGE_LIMIT: usize = 0x3fff_ffff - (1 << 16);

/// The longest message that PostgreSQL can build.
const BACKEND_MESSAGE_LIMIT: usize = 0x4000_0003;

/// The longest of the messages that carry no data (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_MESSAGE_LIMIT: usize = 10_000;

/// The largest buffer that messages share.
const SHARED: usize = 1 << 18;

/// A client or the server broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolViolation(pub(crate) String);

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolViolation {}

/// One whole message, either way: its tag, its length and its contents, as on the wire.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message(Bytes);

impl Message {
    /// Takes the next whole message that a client sent off the buffer.
    pub(crate) fn take_frontend(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolViolation> {
        let Some(&tag) = buffer.first() else {
            return Ok(None);
        };
        if !frontend::ALL.contains(&tag) {
            return Err(ProtocolViolation(format!(
                "invalid frontend message type {tag}"
            )));
        }
        let limit = match tag {
            frontend::CLOSE
            | frontend::COPY_DONE
            | frontend::COPY_FAIL
            | frontend::DESCRIBE
            | frontend::EXECUTE
            | frontend::FLUSH
            | frontend::SYNC
            | frontend::TERMINATE => SMALL_MESSAGE_LIMIT,
            _ => LARGE_MESSAGE_LIMIT,
        };
        Self::take(buffer, limit)
    }

    /// Takes the next whole message that the backend sent off the buffer.
    pub(crate) fn take_backend(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolViolation> {
        Self::take(buffer, BACKEND_MESSAGE_LIMIT)
    }

    fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Self>, ProtocolViolation> {
        let &[tag, a, b, c, d, ..] = &buffer[..] else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || length > limit {
            return Err(ProtocolViolation(format!(
                "invalid message length {length} in a message of type {:?}",
                char::from(tag)
            )));
        }
        if buffer.len() <= length {
            buffer.reserve(length + 1 - buffer.len());
            return Ok(None);
        }
        // What is kept of a message must not keep much more than that.
        if buffer.capacity() > SHARED && length < buffer.capacity() / 4 {
            let frame = Bytes::copy_from_slice(&buffer[..=length]);
            buffer.advance(length + 1);
            return Ok(Some(Self(frame)));
        }
        let frame = buffer.split_to(length + 1).freeze();
        if length > SHARED {
            *buffer = BytesMut::from(&buffer[..]);
        }
        Ok(Some(Self(frame)))
    }

    /// Builds a message from its tag and what `body` writes.
    pub(crate) fn build(tag: u8, body: impl FnOnce(&mut BytesMut)) -> Self {
        let mut frame = BytesMut::with_capacity(64);
        write(&mut frame, tag, body);
        Self(frame.freeze())
    }

    pub(crate) fn tag(&self) -> u8 {
        self.0[0]
    }

    /// The whole message as it goes over the wire.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.0
    }

    /// What follows the length.
    pub(crate) fn body(&self) -> Bytes {
        self.0.slice(5..)
    }

    /// Reads this message's fields one after the other.
    pub(crate) fn fields(&self) -> Fields {
        Fields(self.body())
    }

    /// The transaction status of a ReadyForQuery: `I`, `T` or `E`.
    pub(crate) fn transaction_status(&self) -> Option<u8> {
        (self.tag() == backend::READY_FOR_QUERY)
            .then(|| self.0.get(5).copied())
            .flatten()
    }

    /// A field of an ErrorResponse or NoticeResponse, such as `C` for the SQLSTATE.
    pub(crate) fn error_field(&self, code: u8) -> Option<Bytes> {
        let mut fields = self.fields();
        loop {
            match fields.byte()? {
                0 => return None,
                found if found == code => return fields.string(),
                _ => fields.string()?,
            };
        }
    }

    /// The same ErrorResponse with a field more.
    pub(crate) fn with_error_field(&self, code: u8, value: &str) -> Self {
        let body = self.body();
        let fields = body.strip_suffix(b"\0").unwrap_or(&body);
        Self::build(self.tag(), |body| {
            body.put_slice(fields);
            body.put_u8(code);
            body.put_slice(value.as_bytes());
            body.put_slice(&[0, 0]);
        })
    }

    /// The same ErrorResponse with each field put through `change`.
    pub(crate) fn map_error_fields(&self, mut change: impl FnMut(u8, Bytes) -> Bytes) -> Self {
        let mut fields = self.fields();
        Self::build(self.tag(), |body| {
            while let Some(code) = fields.byte() {
                if code == 0 {
                    break;
                }
                let Some(value) = fields.string() else { break };
                body.put_u8(code);
                body.put_slice(&change(code, value));
                body.put_u8(0);
            }
            body.put_u8(0);
        })
    }
}

/// Writes a message behind what is in the buffer.
pub(crate) fn write(buffer: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_u8(tag);
    buffer.put_u32(0);
    body(buffer);
    let length = buffer.len() - start - 1;
    let length =
        u32::try_from(length).expect("a message is as long as what a client sent, at most");
    buffer[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({:?})",
            char::from(self.tag()),
            String::from_utf8_lossy(&self.0[5..])
        )
    }
}

/// Reads the fields of a message's body; `None` where the body is too short.
pub(crate) struct Fields(Bytes);

impl Fields {
    pub(crate) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    /// A string that ends with a zero byte, without it.
    pub(crate) fn string(&mut self) -> Option<Bytes> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Some(text)
    }

    pub(crate) fn skip_string(&mut self) -> Option<()> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        self.skip(end + 1)
    }

    pub(crate) fn short(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(crate) fn int(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    pub(crate) fn skip(&mut self, length: usize) -> Option<()> {
        (length <= self.0.len()).then(|| self.0.advance(length))
    }

    /// A number, and behind it so many fields of this length.
    pub(crate) fn skip_all(&mut self, length: usize) -> Option<()> {
        let count = usize::from(self.short()?);
        self.skip(count * length)
    }

    /// The values of a Bind's parameters, from their format codes on; `None` is NULL.
    pub(crate) fn values(&mut self) -> Option<Vec<Option<Bytes>>> {
        self.skip_all(2)?;
        (0..self.short()?)
            .map(|_| match usize::try_from(self.int()?) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Some(None),
            })
            .collect()
    }

    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }
}

/// The messages that the multiplexer sends to the backend on its own account.
pub(crate) mod to_backend {
    use super::{BufMut, BytesMut, Message, frontend};

    pub(crate) fn query(sql: &[u8]) -> Message {
        Message::build(frontend::QUERY, |body| {
            body.put_slice(sql);
            body.put_u8(0);
        })
    }

    pub(crate) fn parse(name: &[u8], sql: &[u8]) -> Message {
        Message::build(frontend::PARSE, |body| {
            body.put_slice(name);
            body.put_u8(0);
            body.put_slice(sql);
            body.put_u8(0);
            body.put_u16(0);
        })
    }

    /// Binds a portal to a statement without parameters.
    pub(crate) fn bind(portal: &[u8], statement: &[u8]) -> Message {
        Message::build(frontend::BIND, |body| bind_body(body, portal, statement))
    }

    pub(crate) fn bind_body(body: &mut BytesMut, portal: &[u8], statement: &[u8]) {
        body.put_slice(portal);
        body.put_u8(0);
        body.put_slice(statement);
        body.put_slice(&[0; 7]);
    }

    /// Runs a portal to its end.
    pub(crate) fn execute(portal: &[u8]) -> Message {
        Message::build(frontend::EXECUTE, |body| execute_body(body, portal))
    }

    pub(crate) fn execute_body(body: &mut BytesMut, portal: &[u8]) {
        body.put_slice(portal);
        body.put_slice(&[0; 5]);
    }

    /// Closes a statement (`S`) or a portal (`P`).
    pub(crate) fn close(kind: u8, name: &[u8]) -> Message {
        Message::build(frontend::CLOSE, |body| {
            body.put_u8(kind);
            body.put_slice(name);
            body.put_u8(0);
        })
    }

    pub(crate) fn sync() -> Message {
        Message::build(frontend::SYNC, |_| ())
    }

    pub(crate) fn flush() -> Message {
        Message::build(frontend::FLUSH, |_| ())
    }

    pub(crate) fn copy_fail(reason: &str) -> Message {
        Message::build(frontend::COPY_FAIL, |body| {
            body.put_slice(reason.as_bytes());
            body.put_u8(0);
        })
    }
}

/// The messages that a session gets from the multiplexer instead of the backend.
pub(crate) mod to_session {
    use super::{BufMut, Bytes, Message, backend};

    /// The answer to an SSLRequest or a GSSENCRequest.
    pub(crate) const NO_ENCRYPTION: &[u8] = b"N";

    pub(crate) fn authentication_ok() -> Message {
        Message::build(backend::AUTHENTICATION, |body| body.put_u32(0))
    }

    pub(crate) fn authentication_cleartext_password() -> Message {
        Message::build(backend::AUTHENTICATION, |body| body.put_u32(3))
    }

    pub(crate) fn parameter_status(name: &str, value: &str) -> Message {
        Message::build(backend::PARAMETER_STATUS, |body| {
            for text in [name, value] {
                body.put_slice(text.as_bytes());
                body.put_u8(0);
            }
        })
    }

    pub(crate) fn backend_key_data(process_id: i32, secret_key: &[u8]) -> Message {
        Message::build(backend::BACKEND_KEY_DATA, |body| {
            body.put_i32(process_id);
            body.put_slice(secret_key);
        })
    }

    /// With the status `I`, `T` or `E`. Each batch ends with one, so they aren't built.
    pub(crate) fn ready_for_query(status: u8) -> Message {
        Message(Bytes::from_static(match status {
            b'I' => b"Z\0\0\0\x05I",
            b'T' => b"Z\0\0\0\x05T",
            b'E' => b"Z\0\0\0\x05E",
            _ => unreachable!("no transaction has the status {status}"),
        }))
    }

    pub(crate) fn command_complete(tag: &str) -> Message {
        Message::build(backend::COMMAND_COMPLETE, |body| {
            body.put_slice(tag.as_bytes());
            body.put_u8(0);
        })
    }

    pub(crate) fn notification_response(
        process_id: i32,
        channel: &[u8],
        payload: &[u8],
    ) -> Message {
        Message::build(backend::NOTIFICATION_RESPONSE, |body| {
            body.put_i32(process_id);
            for text in [channel, payload] {
                body.put_slice(text);
                body.put_u8(0);
            }
        })
    }

    pub(crate) fn close_complete() -> Message {
        Message::build(backend::CLOSE_COMPLETE, |_| ())
    }

    pub(crate) fn empty_query_response() -> Message {
        Message::build(backend::EMPTY_QUERY_RESPONSE, |_| ())
    }

    /// What an ErrorResponse or NoticeResponse says.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Report {
        pub(crate) severity: &'static str,
        pub(crate) code: &'static str,
        pub(crate) message: String,
        pub(crate) detail: String,
        pub(crate) hint: String,
    }

    impl Report {
        pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
            Self {
                severity: "ERROR",
                code,
                message: message.into(),
                ..Self::default()
            }
        }

        pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
            Self {
                severity: "FATAL",
                ..Self::error(code, message)
            }
        }

        pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
            Self {
                severity: "WARNING",
                ..Self::error(code, message)
            }
        }

        pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
            self.detail = detail.into();
            self
        }

        pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
            self.hint = hint.into();
            self
        }

        pub(crate) fn message(&self) -> Message {
            let tag = match self.severity {
                "WARNING" => backend::NOTICE_RESPONSE,
                _ => backend::ERROR_RESPONSE,
            };
            Message::build(tag, |body| {
                let fields = [
                    (b'S', self.severity),
                    (b'V', self.severity),
                    (b'C', self.code),
                    (b'M', &self.message),
                    (b'D', &self.detail),
                    (b'H', &self.hint),
                ];
                for (code, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
                    body.put_u8(code);
                    body.put_slice(value.as_bytes());
                    body.put_u8(0);
                }
                body.put_u8(0);
            })
        }
    }
}

#[cfg(test)]
mod tests;
