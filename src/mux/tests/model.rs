//! Random sessions over a model of a server, against what each of them would see on a server of its own.
//!
//! A session sends what drivers send, and what they don't: pipelines without a Sync, messages that are cut short, names that
//! are taken. The model knows nothing of how the multiplexer schedules. Whatever is sent when, in which pieces and in which
//! order: each client gets the very replies that it gets alone, in order; what was acknowledged stays and what was rolled back
//! goes; nobody is left waiting; and the outer transaction doesn't end.
//!
//! `MUX_CASES` runs more cases than the usual, `MUX_SEED` begins with another one. A failure prints its seed and the
//! shortest programs that still fail.

pub(in crate::mux) mod forger;
pub(in crate::mux) mod record;
mod server;
mod shown;
pub(in crate::mux) mod stranger;
mod writer;

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use self::server::{Row, Server};
use self::shown::{Shown, Shows};
use self::stranger::Stranger;
use self::writer::Writer;
use super::{frontend_message, show_backend, show_frontend};
use crate::mux::message::Message;
use crate::mux::{Deferral, Mux, Reach, Reads, SessionId, Transmit, own};

#[test]
fn each_session_sees_what_it_would_see_alone() {
    let number = |name: &str, usual: u64| {
        env::var(name).map_or(usual, |value| value.parse().expect("a number"))
    };
    let first = number("MUX_SEED", 1);
    for seed in first..first + number("MUX_CASES", 1500) {
        let case = Case::generate(seed);
        if let Err(failure) = case.check() {
            let (case, failure) = case.shrink(failure);
            panic!("MUX_SEED={seed}\n{}\n{failure}", case.show());
        }
    }
}

/// Numbers that look random and depend on the seed alone (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What one client sends, request by request, and how it ends.
#[derive(Clone)]
struct Program {
    /// By which its rows are known.
    number: usize,
    requests: Vec<Vec<Message>>,
    vanishes: bool,
    /// How many messages it sends before it vanishes.
    sent: usize,
    cancellable: bool,
}

#[derive(Clone)]
struct Case {
    /// Of the order in which things happen.
    seed: u64,
    /// There are deferrable constraints.
    defers: bool,
    /// What only reads may share a savepoint.
    trusts: bool,
    programs: Vec<Program>,
}

impl Case {
    fn generate(seed: u64) -> Self {
        Self::generate_at(seed, 0)
    }

    /// With the sessions numbered from here.
    fn generate_at(seed: u64, first: usize) -> Self {
        let mut random = Random(seed);
        let sessions = 1 + random.below(4);
        let defers = random.one_in(3);
        let programs = (0..sessions)
            .map(|session| {
                let number = first + session;
                let mut writer = Writer {
                    random: &mut random,
                    session: number,
                    row: 0,
                    defers,
                };
                let length = 1 + writer.random.below(8);
                let requests: Vec<_> = (0..length).map(|_| writer.request()).collect();
                let messages = requests.iter().map(Vec::len).sum::<usize>();
                Program {
                    number,
                    requests,
                    vanishes: random.one_in(5),
                    sent: messages - random.below(messages.clamp(1, 4)),
                    cancellable: random.one_in(3),
                }
            })
            .collect();
        let trusts = random.one_in(2);
        Self {
            seed,
            defers,
            trusts,
            programs,
        }
    }

    fn check(&self) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| Run::new(self).finish()));
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!("panicked: {}", text.unwrap_or_default()))
        })
    }

    /// Leaves out what the failure doesn't need.
    fn shrink(mut self, mut failure: String) -> (Self, String) {
        loop {
            let smaller = self.smaller().into_iter().find_map(|case| {
                // Another order may be needed to show it.
                (0..20).find_map(|more| {
                    let case = Self {
                        seed: self.seed.wrapping_add(more),
                        ..case.clone()
                    };
                    case.check().err().map(|failure| (case, failure))
                })
            });
            match smaller {
                Some(found) => (self, failure) = found,
                None => return (self, failure),
            }
        }
    }

    fn smaller(&self) -> Vec<Self> {
        let mut cases = Vec::new();
        for (index, program) in self.programs.iter().enumerate() {
            for request in 0..program.requests.len() {
                let mut case = self.clone();
                case.programs[index].requests.remove(request);
                cases.push(case);
            }
        }
        cases
    }

    fn show(&self) -> String {
        let mut text = format!(
            "order {}, defers {}, trusts {}\n",
            self.seed, self.defers, self.trusts
        );
        for (session, program) in self.programs.iter().enumerate() {
            for request in &program.requests {
                let messages: Vec<_> = request.iter().map(show_frontend).collect();
                let _ = writeln!(text, "session {session}: {}", messages.join(" | "));
            }
            let _ = writeln!(
                text,
                "session {session}: ends{}{}",
                if program.vanishes {
                    format!(", vanishing after {}", program.sent)
                } else {
                    String::new()
                },
                if program.cancellable {
                    ", cancellable"
                } else {
                    ""
                }
            );
        }
        text
    }
}

/// A client, and the server that it would have for itself.
struct Client {
    id: SessionId,
    number: usize,
    to_send: VecDeque<Message>,
    vanishes: bool,
    gone: bool,
    closed: bool,
    alone: Server,
    received: BytesMut,
}

const SECRET_KEY: Bytes = Bytes::from_static(b"good");

struct Run {
    random: Random,
    mux: Mux,
    now: Instant,
    clients: Vec<Client>,
    stranger: Option<Stranger>,
    server: Server,
    to_server: BytesMut,
    from_server: BytesMut,
    shown: Shown,
    /// A cancel is on its way. What it hits is let be: that it hits nothing of the multiplexer's own is what counts.
    canceling: Option<Reach>,
}

impl Run {
    fn new(case: &Case) -> Self {
        let now = Instant::now();
        let mut server = Server::default();
        let mut shown = Shown::default();
        for message in own::preparation() {
            server.receive(&message);
            shown.read(&message, false);
        }
        server.sent.clear();
        let deferral = match case.defers {
            true => Deferral::Known("public.c".to_owned()),
            false => Deferral::None,
        };
        let reads = match case.trusts {
            true => Reads::Pure,
            false => Reads::Doubtful,
        };
        let mut mux = Mux::new(Vec::new(), deferral, Duration::from_secs(2), now).with_reads(reads);
        let clients = case.programs.iter().map(|program| {
            let id = mux.handle_connect();
            let secret_key = program.cancellable.then_some(SECRET_KEY);
            mux.handle_startup(id, "model", secret_key, None);
            let mut to_send: VecDeque<_> = program.requests.iter().flatten().cloned().collect();
            if program.vanishes {
                to_send.truncate(program.sent);
            } else {
                to_send.push_back(frontend_message(&["Sync"]));
                to_send.push_back(frontend_message(&["Query", "ROLLBACK"]));
            }
            Client {
                id,
                to_send,
                vanishes: program.vanishes,
                gone: false,
                closed: false,
                number: program.number,
                alone: Server::of(i32::try_from(id.0).expect("a small number")),
                received: BytesMut::new(),
            }
        });
        let clients = clients.collect();
        while mux.poll_transmit().is_some() {}
        Self {
            random: Random(case.seed ^ 0x5eed),
            mux,
            now,
            clients,
            stranger: None,
            server,
            to_server: BytesMut::new(),
            from_server: BytesMut::new(),
            shown,
            canceling: None,
        }
    }

    fn finish(mut self) -> Result<(), String> {
        let mut idle = 0;
        while idle < 200 {
            let kinds = if self.stranger.is_some() { 7 } else { 6 };
            let went_on = match self.random.below(kinds) {
                0 if self.canceling.is_some() => self.cancel()?,
                5 => self.ask_to_cancel(),
                0..=2 => self.send(),
                3 => self.serve(),
                4 => self.answer()?,
                _ => self.intrude(),
            };
            self.drain();
            idle = if went_on { 0 } else { idle + 1 };
        }
        self.check_stranger()?;
        self.compare()
    }

    /// A client sends its next message, or goes.
    fn send(&mut self) -> bool {
        let index = self.random.below(self.clients.len());
        let client = &mut self.clients[index];
        match client.to_send.pop_front() {
            Some(message) => {
                // A batch that its client leaves unfinished isn't begun.
                let is_awaited = |message: &Message| b"QFSH".contains(&message.tag());
                if !client.vanishes
                    || is_awaited(&message)
                    || client.to_send.iter().any(is_awaited)
                    || client.alone.is_copying()
                {
                    client.alone.receive(&message);
                }
                self.mux.handle_frontend(client.id, message, self.now);
            }
            None if client.vanishes && !client.gone => {
                client.gone = true;
                client.alone.hang_up();
                self.mux.handle_disconnect(client.id, self.now);
            }
            None => return false,
        }
        true
    }

    /// A client wants what it runs to be cancelled.
    fn ask_to_cancel(&mut self) -> bool {
        let index = self.random.below(self.clients.len());
        let id = self.clients[index].id;
        // One that waits for its turn, or will when the one ahead fails, is told so, and then it isn't as if it were alone.
        if self.mux.leads(id) {
            self.mux
                .handle_cancel(id.process_id(), SECRET_KEY, self.now);
        }
        false
    }

    /// The cancel that is on its way arrives.
    fn cancel(&mut self) -> Result<bool, String> {
        let found = match (self.canceling, self.shown.now) {
            (Some(Reach::Guarded), Shows::Idle | Shows::Marked) => false,
            _ if self.is_guard_ahead() => {
                return Err("a cancel would hit a guard".to_owned());
            }
            _ => true,
        };
        self.canceling = None;
        self.mux.handle_cancelled(found, self.now);
        Ok(true)
    }

    fn is_guard_ahead(&self) -> bool {
        let is_skipping = self.server.is_skipping();
        self.shown.is_marked_ahead(&self.to_server, is_skipping)
    }

    /// The server reads the next message.
    fn serve(&mut self) -> bool {
        let message = Message::take_frontend(&mut self.to_server);
        let Some(message) = message.expect("what is sent is well-formed") else {
            return false;
        };
        self.shown.read(&message, self.server.is_skipping());
        self.server.receive(&message);
        true
    }

    /// Some of the server's bytes come in.
    fn answer(&mut self) -> Result<bool, String> {
        if self.server.sent.is_empty() {
            return Ok(false);
        }
        let count = 1 + self.random.below(self.server.sent.len());
        self.from_server.put(self.server.sent.split_to(count));
        self.deliver()?;
        Ok(true)
    }

    fn deliver(&mut self) -> Result<(), String> {
        while let Some(message) = Message::take_backend(&mut self.from_server)
            .map_err(|violation| violation.to_string())?
        {
            let outcome = self.mux.handle_backend(message, self.now);
            outcome.map_err(|violation| violation.to_string())?;
        }
        Ok(())
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.mux.poll_transmit() {
            match transmit {
                Transmit::Backend(bytes) => self.to_server.put(bytes),
                Transmit::Session(id, bytes) => {
                    let client = self.clients.iter_mut().find(|client| client.id == id);
                    let received = client.map(|client| &mut client.received);
                    let stranger = self.stranger.as_mut();
                    let received =
                        received.or_else(|| stranger.map(|stranger| &mut stranger.received));
                    received.expect("a session").put(bytes);
                }
                Transmit::Cancel(reach) => self.canceling = Some(reach),
                Transmit::Close(id) => {
                    let client = self.clients.iter_mut().find(|client| client.id == id);
                    let closed = client.map(|client| &mut client.closed);
                    let stranger = self.stranger.as_mut();
                    let closed = closed.or_else(|| stranger.map(|stranger| &mut stranger.closed));
                    *closed.expect("a session") = true;
                }
            }
        }
    }

    fn compare(mut self) -> Result<(), String> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            let alone = show_all(client.alone.sent.split());
            let shared = show_all(client.received.split());
            let agree = match client.gone {
                true => alone.starts_with(&shared),
                false => alone == shared,
            };
            if !agree || self.mux.is_waiting(client.id) || self.mux.is_busy(client.id) {
                return Err(format!(
                    "session {index}\nalone:\n  {}\nshared:\n  {}",
                    alone.join("\n  "),
                    shared.join("\n  ")
                ));
            }
        }
        let ending = self.mux.handle_end();
        if ending.doubtful || ending.lost.is_some() {
            return Err(format!("{ending:?}"));
        }
        if ending.has_begun && self.server.is_outside() {
            return Err("the outer transaction has ended".to_owned());
        }
        if let Some(sql) = ending.undo {
            self.server.receive(&frontend_message(&["Query", &sql]));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let of = |server: &Server| -> Vec<Row> {
                let rows = server.rows.iter().copied();
                rows.filter(|(session, _)| *session == client.number)
                    .collect()
            };
            let (alone, shared) = (of(&client.alone), of(&self.server));
            if alone != shared {
                return Err(format!(
                    "session {index}: alone {alone:?}, shared {shared:?}"
                ));
            }
        }
        Ok(())
    }
}

/// What a client reads, without what only our own reports say.
fn show_all(mut bytes: BytesMut) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(message) =
        Message::take_backend(&mut bytes).expect("what is sent is well-formed")
    {
        // That of what triggers notify not everything is heard.
        if message.tag() == b'N' && message.error_field(b'C').as_deref() == Some(b"01000") {
            continue;
        }
        all.push(match message.tag() {
            b'E' | b'N' => {
                let field = |code| message.error_field(code).unwrap_or_default();
                format!("{:?} {:?} {:?}", field(b'V'), field(b'C'), field(b'M'))
            }
            _ => show_backend(&message),
        });
    }
    all
}
