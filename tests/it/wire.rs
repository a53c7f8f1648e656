//! A client of the raw protocol: what it sends is built byte by byte, what it gets is rendered line by line.
//!
//! The notation is that of PostgreSQL's own protocol traces. Left out is what may differ between two servers that behave
//! the same: the place in the server's source that an error comes from, and the numbers of tables.

use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::NoTls;

/// Any stream that the protocol can be spoken on.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// One message of a client's, with the line that shows it.
#[derive(Clone, Debug)]
pub(crate) struct Frontend {
    pub(crate) line: String,
    pub(crate) frame: Bytes,
}

impl Frontend {
    fn new(tag: u8, line: String, body: impl FnOnce(&mut BytesMut)) -> Self {
        let mut frame = BytesMut::new();
        frame.put_u8(tag);
        frame.put_u32(0);
        body(&mut frame);
        let length = u32::try_from(frame.len() - 1).unwrap();
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        Self {
            line,
            frame: frame.freeze(),
        }
    }
}

fn put_string(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

pub(crate) fn query(sql: &str) -> Frontend {
    Frontend::new(b'Q', format!("Query {sql:?}"), |body| put_string(body, sql))
}

/// A Parse that leaves all parameter types to the server.
pub(crate) fn parse(statement: &str, sql: &str) -> Frontend {
    let line = format!("Parse {statement:?} {sql:?}");
    Frontend::new(b'P', line, |body| {
        put_string(body, statement);
        put_string(body, sql);
        body.put_u16(0);
    })
}

/// A Bind with parameters and results as text.
pub(crate) fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Frontend {
    let line = format!("Bind {portal:?} {statement:?} {parameters:?}");
    Frontend::new(b'B', line, |body| {
        put_string(body, portal);
        put_string(body, statement);
        body.put_u16(0);
        body.put_u16(u16::try_from(parameters.len()).unwrap());
        for parameter in parameters {
            body.put_u32(u32::try_from(parameter.len()).unwrap());
            body.put_slice(parameter.as_bytes());
        }
        body.put_u16(0);
    })
}

fn named(tag: u8, message: &str, kind: u8, name: &str) -> Frontend {
    let line = format!("{message} {} {name:?}", char::from(kind));
    Frontend::new(tag, line, |body| {
        body.put_u8(kind);
        put_string(body, name);
    })
}

pub(crate) fn describe_statement(statement: &str) -> Frontend {
    named(b'D', "Describe", b'S', statement)
}

pub(crate) fn describe_portal(portal: &str) -> Frontend {
    named(b'D', "Describe", b'P', portal)
}

pub(crate) fn close_statement(statement: &str) -> Frontend {
    named(b'C', "Close", b'S', statement)
}

pub(crate) fn close_portal(portal: &str) -> Frontend {
    named(b'C', "Close", b'P', portal)
}

/// An Execute of so many rows; 0 means all.
pub(crate) fn execute(portal: &str, rows: u32) -> Frontend {
    Frontend::new(b'E', format!("Execute {portal:?} {rows}"), |body| {
        put_string(body, portal);
        body.put_u32(rows);
    })
}

pub(crate) fn sync() -> Frontend {
    Frontend::new(b'S', "Sync".to_owned(), |_| ())
}

pub(crate) fn flush() -> Frontend {
    Frontend::new(b'H', "Flush".to_owned(), |_| ())
}

pub(crate) fn copy_data(data: &str) -> Frontend {
    Frontend::new(b'd', format!("CopyData {data:?}"), |body| {
        body.put_slice(data.as_bytes());
    })
}

pub(crate) fn copy_done() -> Frontend {
    Frontend::new(b'c', "CopyDone".to_owned(), |_| ())
}

pub(crate) fn copy_fail(reason: &str) -> Frontend {
    Frontend::new(b'f', format!("CopyFail {reason:?}"), |body| {
        put_string(body, reason);
    })
}

/// Runs a statement in one batch by itself.
pub(crate) fn once(sql: &str) -> Vec<Frontend> {
    vec![
        parse("", sql),
        describe_statement(""),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ]
}

/// A `FunctionCall` with arguments and result as text.
pub(crate) fn function_call(function: u32, arguments: &[&str]) -> Frontend {
    let line = format!("FunctionCall {function} {arguments:?}");
    Frontend::new(b'F', line, |body| {
        body.put_u32(function);
        body.put_u16(0);
        body.put_u16(u16::try_from(arguments.len()).unwrap());
        for argument in arguments {
            body.put_u32(u32::try_from(argument.len()).unwrap());
            body.put_slice(argument.as_bytes());
        }
        body.put_u16(0);
    })
}

pub(crate) fn terminate() -> Frontend {
    Frontend::new(b'X', "Terminate".to_owned(), |_| ())
}

/// A session after its startup.
pub(crate) struct Client {
    stream: Box<dyn Io>,
    unread: BytesMut,
}

impl Client {
    /// Starts a session as `tokio_postgres` does it, with whatever authentication the server wants.
    pub(crate) async fn start(stream: Box<dyn Io>, config: &tokio_postgres::Config) -> Self {
        let slot = Arc::new(Mutex::new(Some(stream)));
        let started = config.connect_raw(Lent(Arc::clone(&slot)), NoTls).await;
        // Neither half is ever polled again, so nothing is written behind the startup.
        drop(started.expect("the session starts"));
        let stream = slot.lock().unwrap().take().unwrap();
        Self {
            stream,
            unread: BytesMut::new(),
        }
    }

    /// Sends messages in one write.
    pub(crate) async fn send(&mut self, messages: &[Frontend]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.put_slice(&message.frame);
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// The next message of the server's; `None` when it has closed the stream. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Backend>> {
        loop {
            if let Some(message) = Backend::take(&mut self.unread) {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// A stream that is taken back after the startup.
struct Lent(Arc<Mutex<Option<Box<dyn Io>>>>);

impl Lent {
    fn with<T>(
        &self,
        action: impl FnOnce(Pin<&mut dyn Io>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.0.lock().unwrap().as_mut() {
            Some(stream) => action(Pin::new(&mut **stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}

/// One message of the server's.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) tag: u8,
    body: Bytes,
}

impl Backend {
    fn take(buffer: &mut BytesMut) -> Option<Self> {
        let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().unwrap()) as usize;
        if buffer.len() <= length {
            return None;
        }
        let mut frame = buffer.split_to(length + 1);
        let tag = frame.get_u8();
        Some(Self {
            tag,
            body: frame.freeze().slice(4..),
        })
    }

    /// The transaction status, of a `ReadyForQuery`.
    pub(crate) fn status(&self) -> u8 {
        self.body[0]
    }

    /// The message as one line.
    pub(crate) fn line(&self) -> String {
        let mut body = self.body.clone();
        match self.tag {
            b'1' => "ParseComplete".to_owned(),
            b'2' => "BindComplete".to_owned(),
            b'3' => "CloseComplete".to_owned(),
            b'A' => {
                body.advance(4);
                format!(
                    "NotificationResponse {:?} {:?}",
                    string(&mut body),
                    string(&mut body)
                )
            }
            b'C' => format!("CommandComplete {:?}", string(&mut body)),
            b'c' => "CopyDone".to_owned(),
            b'd' => format!("CopyData {:?}", String::from_utf8_lossy(&body)),
            b'D' => data_row(body),
            b'E' => format!("ErrorResponse {}", report(body)),
            b'G' => format!("CopyInResponse {:?}", &body[..]),
            b'H' => format!("CopyOutResponse {:?}", &body[..]),
            b'I' => "EmptyQueryResponse".to_owned(),
            b'N' => format!("NoticeResponse {}", report(body)),
            b'n' => "NoData".to_owned(),
            b's' => "PortalSuspended".to_owned(),
            b'S' => format!(
                "ParameterStatus {:?} {:?}",
                string(&mut body),
                string(&mut body)
            ),
            b'T' => row_description(body),
            b't' => {
                let types: Vec<_> = (0..body.get_u16())
                    .map(|_| type_name(body.get_u32()))
                    .collect();
                format!("ParameterDescription {types:?}")
            }
            b'V' => format!("FunctionCallResponse {:?}", value(&mut body)),
            b'Z' => format!("ReadyForQuery {}", char::from(body[0])),
            tag => format!("{:?} {body:?}", char::from(tag)),
        }
    }
}

fn string(body: &mut Bytes) -> String {
    let end = body
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(body.len());
    let text = String::from_utf8_lossy(&body.split_to(end)).into_owned();
    body.advance(body.len().min(1));
    text
}

fn value(body: &mut Bytes) -> Option<String> {
    let length = usize::try_from(body.get_i32()).ok()?;
    let value = body.split_to(length);
    Some(String::from_utf8_lossy(&value).into_owned())
}

fn data_row(mut body: Bytes) -> String {
    let mut line = "DataRow".to_owned();
    for _ in 0..body.get_u16() {
        match value(&mut body) {
            Some(value) if value.len() > 200 => write!(line, " ({} bytes)", value.len()).unwrap(),
            Some(value) => write!(line, " {value:?}").unwrap(),
            None => line.push_str(" NULL"),
        }
    }
    line
}

fn row_description(mut body: Bytes) -> String {
    let mut line = "RowDescription".to_owned();
    for _ in 0..body.get_u16() {
        let name = string(&mut body);
        body.advance(6);
        let kind = type_name(body.get_u32());
        body.advance(6);
        let format = if body.get_u16() == 0 {
            "text"
        } else {
            "binary"
        };
        write!(line, " {name:?} {kind} {format}").unwrap();
    }
    line
}

fn type_name(oid: u32) -> String {
    match tokio_postgres::types::Type::from_oid(oid) {
        Some(kind) => kind.name().to_owned(),
        None => "(of the database's own)".to_owned(),
    }
}

fn report(mut body: Bytes) -> String {
    let mut line = String::new();
    while body.has_remaining() {
        let code = body.get_u8();
        if code == 0 {
            break;
        }
        let text = string(&mut body);
        match code {
            b'S' | b'C' => write!(line, "{text} ").unwrap(),
            b'M' => write!(line, "{text:?}").unwrap(),
            b'D' => write!(line, " detail {text:?}").unwrap(),
            b'H' => write!(line, " hint {text:?}").unwrap(),
            b'P' => write!(line, " position {text}").unwrap(),
            b'p' => write!(line, " internal position {text}").unwrap(),
            b'q' => write!(line, " internal query {text:?}").unwrap(),
            b'W' => write!(line, " context {text:?}").unwrap(),
            b's' => write!(line, " schema {text}").unwrap(),
            b't' => write!(line, " table {text}").unwrap(),
            b'c' => write!(line, " column {text}").unwrap(),
            b'd' => write!(line, " type {text}").unwrap(),
            b'n' => write!(line, " constraint {text}").unwrap(),
            // The severity again, and the file, line and routine of the server's source.
            b'V' | b'F' | b'L' | b'R' => {}
            code => write!(line, " {}={text:?}", char::from(code)).unwrap(),
        }
    }
    line
}

/// A message with a length that is right and whatever contents.
pub(crate) fn raw(tag: u8, body: &[u8]) -> Frontend {
    let line = format!(
        "{:?} {:?}",
        char::from(tag),
        body.escape_ascii().to_string()
    );
    Frontend::new(tag, line, |frame| frame.put_slice(body))
}

/// A message's type and length, and not more than that.
pub(crate) fn header(tag: u8, length: u32) -> Frontend {
    let mut frame = BytesMut::new();
    frame.put_u8(tag);
    frame.put_u32(length);
    Frontend {
        line: format!("{:?} of length {length}", char::from(tag)),
        frame: frame.freeze(),
    }
}

/// What is no message.
pub(crate) fn garbage() -> Frontend {
    Frontend {
        line: "(garbage)".to_owned(),
        frame: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
    }
}
