//! Random sessions over a model of a server, against what each of them would see on a server of its own.
//!
//! The model knows nothing of how the multiplexer schedules. Whatever is sent when, in which pieces and in which order:
//! each client gets the very replies that it gets alone, in order; what was acknowledged stays and what was rolled back
//! goes; nobody is left waiting; and the outer transaction doesn't end.
//!
//! `MUX_CASES` runs more cases than the usual, `MUX_SEED` begins with another one. A failure prints its seed and the
//! shortest programs that still fail.

mod server;

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use self::server::{Row, Server};
use super::{frontend_message, show_backend, show_frontend};
use crate::mux::message::Message;
use crate::mux::{Deferral, Mux, SessionId, Transmit, own};

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
    programs: Vec<Program>,
}

impl Case {
    fn generate(seed: u64) -> Self {
        let mut random = Random(seed);
        let sessions = 1 + random.below(4);
        let programs = (0..sessions)
            .map(|session| {
                let mut writer = Writer {
                    random: &mut random,
                    session,
                    row: 0,
                };
                let length = 1 + writer.random.below(8);
                let requests: Vec<_> = (0..length).map(|_| writer.request()).collect();
                let messages = requests.iter().map(Vec::len).sum::<usize>();
                Program {
                    requests,
                    vanishes: random.one_in(5),
                    sent: messages - random.below(messages.min(4)),
                    cancellable: random.one_in(3),
                }
            })
            .collect();
        Self { seed, programs }
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
        let mut text = format!("order {}\n", self.seed);
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

/// Writes down a session's requests.
struct Writer<'a> {
    random: &'a mut Random,
    session: usize,
    row: u32,
}

impl Writer<'_> {
    fn request(&mut self) -> Vec<Message> {
        match self.random.below(12) {
            0..=4 => {
                let count = match self.random.below(6) {
                    0 => 0,
                    1 => 2 + self.random.below(3),
                    _ => 1,
                };
                let statements: Vec<_> = (0..count).map(|_| self.statement()).collect();
                vec![frontend_message(&["Query", &statements.join("; ")])]
            }
            5 => {
                let (before, after) = match self.random.one_in(2) {
                    true => (self.statement() + "; ", "; ".to_owned() + &self.statement()),
                    false => (String::new(), String::new()),
                };
                let sql = format!("{before}COPY t FROM STDIN{after}");
                let mut messages = vec![frontend_message(&["Query", &sql])];
                self.data(&mut messages);
                messages
            }
            6 => {
                let mut messages = Vec::new();
                // Under a name of its own, so that nothing else runs it and then sends no data.
                messages.push(frontend_message(&["Close", "S", "copy"]));
                self.run("copy", "COPY t FROM STDIN", &mut messages);
                self.data(&mut messages);
                messages.push(frontend_message(&["Sync"]));
                messages
            }
            _ => {
                let mut messages = Vec::new();
                for _ in 0..self.random.below(4) {
                    self.step(&mut messages);
                }
                messages.push(frontend_message(&["Sync"]));
                messages
            }
        }
    }

    fn statement(&mut self) -> String {
        const NAMES: [&str; 2] = ["a", "b"];
        let name = NAMES[self.random.below(2)];
        match self.random.below(16) {
            0 | 1 => "BEGIN".to_owned(),
            2 | 3 => "COMMIT".to_owned(),
            4 => "ROLLBACK".to_owned(),
            5 => format!("SAVEPOINT {name}"),
            6 => format!("RELEASE SAVEPOINT {name}"),
            7 => format!("ROLLBACK TO SAVEPOINT {name}"),
            8 => "SELECT 1/0".to_owned(),
            9 if self.random.one_in(2) => "SELEC".to_owned(),
            9..=11 => format!("SELECT number FROM t WHERE session = {}", self.session),
            _ => {
                let row = self.row();
                format!("INSERT INTO t VALUES ({}, {row})", self.session)
            }
        }
    }

    fn row(&mut self) -> u32 {
        self.row += 1;
        self.row
    }

    fn data(&mut self, messages: &mut Vec<Message>) {
        for _ in 0..self.random.below(3) {
            let row = self.row();
            let line = format!("{} {row}", self.session);
            messages.push(frontend_message(&["CopyData", &line]));
        }
        messages.push(match self.random.below(3) {
            0 => frontend_message(&["CopyFail", "on purpose"]),
            _ => frontend_message(&["CopyDone"]),
        });
    }

    /// Some messages of the extended protocol that belong together.
    fn step(&mut self, messages: &mut Vec<Message>) {
        let name = ["", "a", "b"][self.random.below(3)];
        match self.random.below(8) {
            0 => messages.push(frontend_message(&["Flush"])),
            1 => messages.push(frontend_message(&["Close", "S", name])),
            2 => messages.push(frontend_message(&["Parse", name, &self.statement()])),
            3 => messages.push(frontend_message(&["Describe", "S", name])),
            4 => {
                messages.push(frontend_message(&["Bind", "", name]));
                messages.push(frontend_message(&["Execute", "", "0"]));
            }
            _ => {
                let statement = self.statement();
                self.run("", &statement, messages);
            }
        }
    }

    fn run(&mut self, name: &str, sql: &str, messages: &mut Vec<Message>) {
        messages.push(frontend_message(&["Parse", name, sql]));
        messages.push(frontend_message(&["Bind", "", name]));
        if self.random.one_in(2) {
            messages.push(frontend_message(&["Describe", "P", ""]));
        }
        messages.push(frontend_message(&["Execute", "", "0"]));
    }
}

/// A client, and the server that it would have for itself.
struct Client {
    id: SessionId,
    to_send: VecDeque<Message>,
    vanishes: bool,
    gone: bool,
    alone: Server,
    received: BytesMut,
}

struct Run {
    random: Random,
    mux: Mux,
    now: Instant,
    clients: Vec<Client>,
    server: Server,
    to_server: BytesMut,
    from_server: BytesMut,
    /// A CancelRequest is on its way. It comes too late, as one may.
    canceling: bool,
}

impl Run {
    fn new(case: &Case) -> Self {
        let now = Instant::now();
        let mut server = Server::default();
        for message in own::preparation() {
            server.receive(&message);
        }
        server.sent.clear();
        let mut mux = Mux::new(Vec::new(), Deferral::None, Duration::from_secs(2), now);
        let clients = case.programs.iter().map(|program| {
            let id = mux.handle_connect();
            mux.handle_startup(id, "model", program.cancellable.then_some(1));
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
                alone: Server::default(),
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
            server,
            to_server: BytesMut::new(),
            from_server: BytesMut::new(),
            canceling: false,
        }
    }

    fn finish(mut self) -> Result<(), String> {
        let mut idle = 0;
        while idle < 200 {
            let went_on = match self.random.below(5) {
                0 if std::mem::take(&mut self.canceling) => {
                    self.mux.handle_cancelled(self.now);
                    true
                }
                0..=2 => self.send(),
                3 => self.serve(),
                _ => self.answer()?,
            };
            self.drain();
            idle = if went_on { 0 } else { idle + 1 };
        }
        self.compare()
    }

    /// A client sends its next message, or goes.
    fn send(&mut self) -> bool {
        let index = self.random.below(self.clients.len());
        let client = &mut self.clients[index];
        match client.to_send.pop_front() {
            Some(message) => {
                // A batch that its client leaves unfinished isn't begun.
                let is_awaited = |message: &Message| b"QSH".contains(&message.tag());
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

    /// The server reads the next message.
    fn serve(&mut self) -> bool {
        let message = Message::take_frontend(&mut self.to_server);
        let Some(message) = message.expect("what is sent is well-formed") else {
            return false;
        };
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
        while let Some(message) =
            Message::take_backend(&mut self.from_server).expect("what is sent is well-formed")
        {
            let outcome = self.mux.handle_backend(message, self.now);
            outcome.map_err(|violation| violation.to_string())?;
        }
        Ok(true)
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.mux.poll_transmit() {
            match transmit {
                Transmit::Backend(bytes) => self.to_server.put(bytes),
                Transmit::Session(id, bytes) => {
                    let client = self.clients.iter_mut().find(|client| client.id == id);
                    client.expect("a session").received.put(bytes);
                }
                Transmit::Cancel => self.canceling = true,
                Transmit::Close(_) => {}
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
                rows.filter(|(session, _)| *session == index).collect()
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
