//! Writes down what a session of the model sends, request by request.

use bytes::BufMut;

use super::super::frontend_message;
use super::Random;
use crate::mux::message::Message;

pub(super) struct Writer<'a> {
    pub(super) random: &'a mut Random,
    pub(super) session: usize,
    pub(super) row: u32,
    pub(super) defers: bool,
}

impl Writer<'_> {
    pub(super) fn request(&mut self) -> Vec<Message> {
        match self.random.below(14) {
            // What it violates is found later than a server would find it.
            12 if !self.defers => vec![self.call()],
            13 => {
                let mut messages = vec![self.malformed()];
                messages.push(frontend_message(&["Sync"]));
                messages
            }
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
                if self.random.one_in(8) {
                    // Nothing is wrong with it if the COPY has begun by then.
                    messages.push(Message::build(b'H', |body| body.put_u8(b'?')));
                }
                self.data(&mut messages);
                messages.push(frontend_message(&["Sync"]));
                messages
            }
            _ => {
                let mut messages = Vec::new();
                for _ in 0..self.random.below(4) {
                    self.step(&mut messages);
                }
                // What comes next may do without.
                if !self.random.one_in(8) {
                    messages.push(frontend_message(&["Sync"]));
                }
                messages
            }
        }
    }

    fn statement(&mut self) -> String {
        const NAMES: [&str; 2] = ["a", "b"];
        let name = NAMES[self.random.below(2)];
        match self.random.below(20) {
            0 | 1 => "BEGIN".to_owned(),
            2 | 3 => "COMMIT".to_owned(),
            4 => "ROLLBACK".to_owned(),
            16 if self.random.one_in(2) => "COMMIT AND CHAIN".to_owned(),
            16 => "ROLLBACK AND CHAIN".to_owned(),
            17 if self.defers => {
                let row = self.row();
                format!("INSERT INTO deferred VALUES ({}, {row})", self.session)
            }
            18 if self.random.one_in(4) => "UNLISTEN *".to_owned(),
            18 => format!("LISTEN c{}", self.session),
            19 => {
                let payload = ["x", "y"][self.random.below(2)];
                match self.random.one_in(2) {
                    true => format!("NOTIFY c{}, '{payload}'", self.session),
                    false => format!("SELECT pg_notify('c{}', '{payload}')", self.session),
                }
            }
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
        match self.random.below(12) {
            8 => messages.push(self.malformed()),
            9 if !self.defers => messages.push(self.call()),
            9 | 10 => self.portal(name, messages),
            11 => {
                let rows = self.random.below(3).to_string();
                messages.push(frontend_message(&["Execute", name, &rows]));
            }
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

    /// A portal of a name, which may be read in pieces and outlive its batch.
    fn portal(&mut self, name: &str, messages: &mut Vec<Message>) {
        let sql = format!("SELECT number FROM t WHERE session = {}", self.session);
        messages.push(frontend_message(&["Parse", "", &sql]));
        messages.push(frontend_message(&["Bind", name, ""]));
        for _ in 0..self.random.below(3) {
            let rows = self.random.below(3).to_string();
            messages.push(frontend_message(&["Execute", name, &rows]));
        }
        match self.random.below(4) {
            0 => messages.push(frontend_message(&["Close", "P", name])),
            1 => messages.push(frontend_message(&["Describe", "P", name])),
            _ => {}
        }
    }

    /// A FunctionCall that writes a row down, or fails.
    fn call(&mut self) -> Message {
        let (function, arguments) = match self.random.one_in(4) {
            true => (2, Vec::new()),
            false => (1, vec![self.session.to_string(), self.row().to_string()]),
        };
        Message::build(b'F', |body| {
            body.put_i32(function);
            body.put_u16(0);
            body.put_u16(u16::try_from(arguments.len()).expect("a small number"));
            for argument in &arguments {
                body.put_i32(i32::try_from(argument.len()).expect("a small number"));
                body.put_slice(argument.as_bytes());
            }
            body.put_u16(0);
        })
    }

    /// A message that is cut short, or with something behind its end.
    fn malformed(&mut self) -> Message {
        let sql = self.statement();
        let sound = match self.random.below(8) {
            0 => frontend_message(&["Query", &sql]),
            1 => frontend_message(&["Parse", "", &sql]),
            2 => frontend_message(&["Bind", "", "a"]),
            3 => frontend_message(&["Describe", "S", "a"]),
            4 => frontend_message(&["Close", "S", "a"]),
            5 => frontend_message(&["Execute", "", "0"]),
            7 if !self.defers => self.call(),
            _ => frontend_message(&["Flush"]),
        };
        let body = sound.body();
        Message::build(sound.tag(), |malformed| {
            if self.random.one_in(2) || body.is_empty() {
                malformed.put_slice(&body);
                malformed.put_u8(b'?');
            } else {
                malformed.put_slice(&body[..self.random.below(body.len())]);
            }
        })
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
