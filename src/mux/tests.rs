//! Replays the transcripts of `tests/traces` against the [`Mux`], without a database.
//!
//! A transcript is written as PostgreSQL's own `libpq_pipeline` traces are: `F` for a frontend message, `B` for a backend
//! message, each with its fields. A first column says at which end: `pg` is the backend's connection, and a letter is a
//! session's. What clients send (`a F ...`) and what the backend sends (`pg B ...`) is fed to the multiplexer; what it
//! sends in turn (`pg F ...`, `a B ...`) must stand below, in this order and with nothing left over. Further inputs:
//!
//! ```text
//! a  connect             a session is opened and started
//! a  connect  cancellably  the same for a client that can cancel what it runs
//! a  connect  insider    a client of this crate's own
//! a  connect  with  TimeZone  UTC   a client that asks for this when it connects
//! a  opens               a session is opened, and has not sent its StartupMessage
//! a  starts              that comes
//! a  disconnect          its client goes
//! a  violates  "why"     its client sends what is no message
//! clock  2.5             so many seconds pass
//! gate                   the gate closes
//! fault  "SELECT 1"  fail  40001 | delay  0.5 | disconnect   this happens to the next such statement
//! fault  "SELECT 1"  fail  40001  later   the same to the one after that
//! blockers  "who"        it was seen who holds the lock that the backend waits for
//! unread  2000000        so many bytes wait for slow clients: is the backend read?
//! picture                who is in the middle of something?
//! end                    the shared transaction ends
//! a  cancel              a CancelRequest with the session's key comes in, which may lead to one to the backend
//! a  cancel  wrongly     the same with another secret
//! cancelled              that is over
//! cancelled  nothing     the same, but the backend was found at nothing of the client's
//! named  "a::test"       (first line) the test has a name, and the backend has not begun the outer transaction yet
//! outside                (first line) the backend has not begun the outer transaction yet
//! trusts reads           (first line) the database holds nothing that writes when it's read
//! denies levels          (first line) isolation levels that aren't exercised are errors
//! deferrable  "s.c"      (first line) the database has a deferrable constraint, this one deferred initially
//! reports  TimeZone  UTC (first line) the server reports this of a session that has set nothing
//! ```
//!
//! A frontend message behind `malformed` has one byte more than its fields.
//!
//! With `UPDATE_TRACES=1` the outputs in the files are rewritten as they are now, to be read before they are kept.

pub(super) mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use bytes::{BufMut, Bytes, BytesMut};

use super::fault::{self, Action, Fault};
use super::message::to_session::Report;
use super::message::{Message, ProtocolViolation, to_backend, to_session};
use super::record::Origin;
use super::{Deferral, Initial, Mux, Reach, Reads, SessionId, Transmit};

#[test]
fn the_transcripts_are_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("tests/traces is part of the repository")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "trace")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no transcript in {}", folder.display());
    let mut failures = String::new();
    for path in &paths {
        let expected = fs::read_to_string(path).expect("a transcript is text");
        let actual = replay(&expected);
        if actual == expected {
            continue;
        }
        if env::var_os("UPDATE_TRACES").is_some() {
            fs::write(path, actual).expect("a transcript can be written");
            continue;
        }
        let differs = expected
            .lines()
            .zip(actual.lines())
            .position(|(expected, actual)| expected != actual)
            .unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
        failures += &format!(
            "{}:{}\n  expected {:?}\n  actual   {:?}\n",
            path.display(),
            differs + 1,
            expected.lines().nth(differs).unwrap_or("the end"),
            actual.lines().nth(differs).unwrap_or("the end"),
        );
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// The transcript with its outputs as they really are.
fn replay(transcript: &str) -> String {
    let mut replay = Replay {
        mux: Mux::new(
            Vec::new(),
            Deferral::None,
            Duration::from_secs(2),
            Instant::now(),
        )
        .begun(),
        sessions: BTreeMap::new(),
        now: Instant::now(),
        output: String::new(),
    };
    for line in transcript.lines() {
        let words = words(line);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let is_output = match &words[..] {
            ["pg", direction, ..] => *direction == "F",
            ["violation:" | "reads:" | "shows:" | "ending:", ..] => true,
            [_, direction, ..] => *direction == "B",
            _ => false,
        };
        if is_output && !line.starts_with('#') {
            continue;
        }
        replay.output += line;
        replay.output.push('\n');
        if !line.starts_with('#') && !line.is_empty() {
            replay.feed(&words);
            replay.drain();
        }
    }
    replay.output
}

const SECRET_KEY: &[u8] = b"good";

struct Replay {
    mux: Mux,
    sessions: BTreeMap<String, SessionId>,
    now: Instant,
    output: String,
}

impl Replay {
    fn feed(&mut self, words: &[&str]) {
        match words {
            ["deferrable", names] => {
                let deferral = Deferral::Known((*names).to_owned());
                self.mux = Mux::new(Vec::new(), deferral, Duration::from_secs(2), self.now).begun();
            }
            ["trusts", "reads"] => {
                let mux = Mux::new(Vec::new(), Deferral::None, Duration::from_secs(2), self.now);
                self.mux = mux.with_reads(Reads::Pure).begun();
            }
            ["denies", "levels"] => {
                let mux = Mux::new(Vec::new(), Deferral::None, Duration::from_secs(2), self.now);
                self.mux = mux.deny_isolation_levels(true).begun();
            }
            ["outside"] => {
                self.mux = Mux::new(Vec::new(), Deferral::None, Duration::from_secs(2), self.now);
            }
            ["named", name] => {
                let mux = Mux::new(Vec::new(), Deferral::None, Duration::from_secs(2), self.now);
                self.mux = mux.named(name);
            }
            ["reports", name, value] => {
                let parameters = vec![((*name).to_owned(), (*value).to_owned())];
                self.mux =
                    Mux::new(parameters, Deferral::None, Duration::from_secs(2), self.now).begun();
            }
            ["clock", seconds] => {
                self.now += Duration::from_secs_f64(seconds.parse().expect("seconds"));
                self.mux.handle_timeout(self.now);
            }
            ["fault", text, action @ ..] => {
                let text = text.as_bytes().to_vec();
                let (action, skips) = match action {
                    [action @ .., "later"] => (action, 1),
                    action => (action, 0),
                };
                let action = match action {
                    ["fail", code] => Action::Fail(fault::error(code, "ordered", None)),
                    ["delay", seconds] => {
                        let seconds = seconds.parse().expect("seconds");
                        Action::Delay(Duration::from_secs_f64(seconds))
                    }
                    ["disconnect"] => Action::Disconnect,
                    _ => panic!("not understood: {action:?}"),
                };
                self.mux.faults_mut().order(Fault {
                    number: 0,
                    matches: Box::new(move |candidate| candidate.sql == text),
                    action,
                    skips,
                    times: 1,
                    is_optional: true,
                    words: String::new(),
                });
            }
            ["gate"] => self.mux.close_gate(self.now),
            ["blockers", who] => {
                let silent_since = self.mux.silent_since().expect("the backend is silent");
                self.mux
                    .handle_blockers(silent_since, Some((*who).to_owned()));
            }
            ["unread", bytes] => {
                let wanted = self
                    .mux
                    .wants_backend(bytes.parse().expect("a number of bytes"));
                let awaited = self.mux.awaits_backend();
                self.output += &format!("reads:  wanted {wanted}, awaited {awaited}\n");
            }
            ["picture"] => {
                for line in self.mux.picture(self.now) {
                    self.output += &format!("shows:  {line}\n");
                }
            }
            ["end"] => {
                let ending = self.mux.handle_end();
                self.output += &format!("ending:  {ending:?}\n");
            }
            ["cancelled", rest @ ..] => self.mux.handle_cancelled(rest.is_empty(), self.now),
            ["pg", "gone"] => self
                .mux
                .handle_backend_gone("the server closed the connection"),
            ["pg", "B", message @ ..] => {
                let outcome = self.mux.handle_backend(backend_message(message), self.now);
                if let Err(violation) = outcome {
                    self.output += &format!("violation: {violation}\n");
                }
            }
            [name, "connect", rest @ ..] => {
                self.open(name);
                if *rest == ["insider"] {
                    let id = self.session(name);
                    self.mux.recorder_mut().note_origin(id, Origin::Own);
                }
                self.start(name, rest);
                while self.mux.poll_transmit().is_some() {}
            }
            [name, "opens"] => self.open(name),
            [name, "starts"] => self.start(name, &[]),
            [name, "violates", why] => {
                let violation = ProtocolViolation((*why).to_owned());
                self.mux
                    .handle_violation(self.session(name), &violation, self.now);
            }
            [name, "disconnect"] => self.mux.handle_disconnect(self.session(name), self.now),
            [name, "cancel", rest @ ..] => {
                let process_id = i32::try_from(self.session(name).0).expect("a small number");
                let secret_key = match *rest == ["wrongly"] {
                    true => b"evil",
                    false => SECRET_KEY,
                };
                self.mux
                    .handle_cancel(process_id, Bytes::from_static(secret_key), self.now);
            }
            [name, "F", message @ ..] => {
                let id = self.session(name);
                self.mux
                    .handle_frontend(id, frontend_message(message), self.now);
            }
            _ => panic!("not understood: {words:?}"),
        }
    }

    fn open(&mut self, name: &str) {
        let id = self.mux.handle_connect();
        self.sessions.insert(name.to_owned(), id);
    }

    fn start(&mut self, name: &str, how: &[&str]) {
        let secret_key = (how == ["cancellably"]).then_some(Bytes::from_static(SECRET_KEY));
        let initial = match how {
            ["with", setting, value] => Some(Arc::new(Initial {
                parameters: vec![((*setting).to_owned(), (*value).to_owned())],
                settings: vec![(setting.to_lowercase(), (*value).to_owned())],
            })),
            _ => None,
        };
        let id = self.session(name);
        self.mux.handle_startup(id, name, secret_key, initial);
    }

    fn session(&self, name: &str) -> SessionId {
        *self
            .sessions
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not connected"))
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.mux.poll_transmit() {
            match transmit {
                Transmit::Backend(bytes) => {
                    let mut bytes = BytesMut::from(&bytes[..]);
                    while let Some(message) =
                        Message::take_frontend(&mut bytes).expect("what is sent is well-formed")
                    {
                        self.output += &format!("pg  F  {}\n", show_frontend(&message));
                    }
                }
                Transmit::Session(id, bytes) => {
                    let name = self.name(id);
                    let mut bytes = BytesMut::from(&bytes[..]);
                    while let Some(message) =
                        Message::take_backend(&mut bytes).expect("what is sent is well-formed")
                    {
                        self.output += &format!("{name}   B  {}\n", show_backend(&message));
                    }
                }
                Transmit::Cancel(Reach::Open) => self.output += "pg  F  CancelRequest\n",
                Transmit::Cancel(Reach::Guarded) => {
                    self.output += "pg  F  CancelRequest  unless guarded\n";
                }
                Transmit::Close(id) => self.output += &format!("{}   B  (closed)\n", self.name(id)),
            }
        }
    }

    fn name(&self, id: SessionId) -> String {
        let found = self.sessions.iter().find(|(_, known)| **known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }
}

/// Cuts a line at white space, but for what stands in quotes.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&char) = chars.peek() {
        if char.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if char == '"' {
            chars.next();
            while let Some(char) = chars.next() {
                match char {
                    '"' => break,
                    '\\' => word.extend(
                        chars
                            .next()
                            .map(|char| if char == 'n' { '\n' } else { char }),
                    ),
                    _ => word.push(char),
                }
            }
        } else {
            while let Some(char) = chars.next_if(|char| !char.is_whitespace()) {
                word.push(char);
            }
        }
        words.push(word);
    }
    words
}

fn strings(tag: u8, parts: &[&str]) -> Message {
    Message::build(tag, |body| {
        for part in parts {
            body.put_slice(part.as_bytes());
            body.put_u8(0);
        }
    })
}

pub(super) fn frontend_message(words: &[&str]) -> Message {
    match words {
        ["malformed", message @ ..] => {
            let message = frontend_message(message);
            Message::build(message.tag(), |body| {
                body.put_slice(&message.body());
                body.put_u8(b'!');
            })
        }
        ["Query", sql] => to_backend::query(sql.as_bytes()),
        ["Parse", name, sql] => to_backend::parse(name.as_bytes(), sql.as_bytes()),
        ["Bind", portal, statement] => Message::build(b'B', |body| {
            for name in [portal, statement] {
                body.put_slice(name.as_bytes());
                body.put_u8(0);
            }
            body.put_slice(&[0; 6]);
        }),
        ["Describe", kind, name] => Message::build(b'D', |body| {
            body.put_slice(kind.as_bytes());
            body.put_slice(name.as_bytes());
            body.put_u8(0);
        }),
        ["Close", kind, name] => to_backend::close(kind.as_bytes()[0], name.as_bytes()),
        ["Execute", portal, rows] => Message::build(b'E', |body| {
            body.put_slice(portal.as_bytes());
            body.put_u8(0);
            body.put_i32(rows.parse().expect("a number of rows"));
        }),
        ["Sync"] => to_backend::sync(),
        ["Flush"] => to_backend::flush(),
        ["CopyData", data] => Message::build(b'd', |body| body.put_slice(data.as_bytes())),
        ["CopyDone"] => strings(b'c', &[]),
        ["CopyFail", reason] => to_backend::copy_fail(reason),
        ["FunctionCall"] => strings(b'F', &[]),
        ["Terminate"] => strings(b'X', &[]),
        _ => panic!("no frontend message: {words:?}"),
    }
}

pub(super) fn backend_message(words: &[&str]) -> Message {
    let tag = match words[0] {
        "ParseComplete" => b'1',
        "BindComplete" => b'2',
        "CloseComplete" => b'3',
        "NoData" => b'n',
        "EmptyQueryResponse" => b'I',
        "PortalSuspended" => b's',
        "RowDescription" => b'T',
        "ParameterDescription" => b't',
        "DataRow" => b'D',
        "CopyInResponse" => b'G',
        "CopyOutResponse" => b'H',
        "CopyData" => b'd',
        "CopyDone" => b'c',
        "FunctionCallResponse" => b'V',
        "CommandComplete" => return to_session::command_complete(words[1]),
        "ReadyForQuery" => return to_session::ready_for_query(words[1].as_bytes()[0]),
        "ParameterStatus" => return to_session::parameter_status(words[1], words[2]),
        "ErrorResponse" | "NoticeResponse" => {
            return Message::build(
                if words[0] == "ErrorResponse" {
                    b'E'
                } else {
                    b'N'
                },
                |body| {
                    for (code, value) in b"VCMPR".iter().zip(&words[1..]) {
                        if value.is_empty() {
                            continue;
                        }
                        body.put_u8(*code);
                        body.put_slice(value.as_bytes());
                        body.put_u8(0);
                    }
                    body.put_u8(0);
                },
            );
        }
        _ => panic!("no backend message: {words:?}"),
    };
    strings(tag, &words[1..])
}

fn show_frontend(message: &Message) -> String {
    let mut fields = message.fields();
    let mut string = || show(&fields.string().unwrap_or_default());
    match message.tag() {
        b'Q' => format!("Query  {}", string()),
        b'P' => format!("Parse  {}  {}", string(), string()),
        b'B' => format!("Bind  {}  {}", string(), string()),
        b'D' | b'C' => {
            let body = message.body();
            let kind = body.first().map_or('?', |&kind| char::from(kind));
            let name = show(body.get(1..body.len().max(2) - 1).unwrap_or_default());
            let verb = if message.tag() == b'D' {
                "Describe"
            } else {
                "Close"
            };
            format!("{verb}  {kind}  {name}")
        }
        b'E' => {
            let portal = string();
            let body = message.body();
            let rows = body.last_chunk().map(|&rows| i32::from_be_bytes(rows));
            format!("Execute  {portal}  {}", rows.unwrap_or(-1))
        }
        b'S' => "Sync".to_owned(),
        b'H' => "Flush".to_owned(),
        b'd' => format!("CopyData  {}", show(&message.body())),
        b'c' => "CopyDone".to_owned(),
        b'f' => format!("CopyFail  {}", string()),
        b'F' => "FunctionCall".to_owned(),
        tag => format!("unknown {:?}", char::from(tag)),
    }
}

fn show_backend(message: &Message) -> String {
    let name = match message.tag() {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'n' => "NoData",
        b'I' => "EmptyQueryResponse",
        b's' => "PortalSuspended",
        b'T' => "RowDescription",
        b't' => "ParameterDescription",
        b'D' => "DataRow",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'V' => "FunctionCallResponse",
        b'C' => "CommandComplete",
        b'S' => "ParameterStatus",
        b'A' => "NotificationResponse",
        b'R' => return "AuthenticationOk".to_owned(),
        b'K' => return "BackendKeyData".to_owned(),
        b'Z' => {
            let status = message.transaction_status().map_or('?', char::from);
            return format!("ReadyForQuery  {status}");
        }
        b'E' | b'N' => {
            let name = if message.tag() == b'E' {
                "ErrorResponse"
            } else {
                "NoticeResponse"
            };
            let mut text = name.to_owned();
            for code in *b"VCMPDH" {
                if let Some(value) = message.error_field(code) {
                    text += &format!("  {}", show(&value));
                }
            }
            return text;
        }
        tag => return format!("unknown {:?}", char::from(tag)),
    };
    let mut text = name.to_owned();
    let mut fields = message.fields();
    if message.tag() == b'A' {
        text += &format!("  {}", fields.int().unwrap_or_default());
    }
    while let Some(value) = fields.string() {
        text += &format!("  {}", show(&value));
    }
    text
}

fn show(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

#[test]
fn what_a_session_is_told_has_a_severity_a_code_and_a_message() {
    let report = Report::warning("25P01", "there is no transaction in progress");
    assert_eq!(
        show_backend(&report.message()),
        r#"NoticeResponse  "WARNING"  "25P01"  "there is no transaction in progress""#
    );
}
