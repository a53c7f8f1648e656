//! Programs made at random, played on a plain session and on a shared one: PostgreSQL says what is right.
//!
//! A program is a list of writes. Behind each comes a marker, two empty queries, which is answered in any state, so that
//! its end is seen without knowing what the program does. The programs of a run are always the same ones;
//! `SHAREDDB_IT_PROGRAMS` asks for more of them, `SHAREDDB_IT_SEED` for others. A program that shows a difference is cut
//! down to what is needed to show it.
//!
//! What may differ, and is therefore left out: whether a block that has failed hands READ ONLY down to the one that AND
//! CHAIN begins, which depends on how it came by it; READ WRITE in a block that is read-only, which is an error unless
//! nothing was queried yet; what a FunctionCall does to deferred constraints, which are checked before it;
//! a portal of a BEGIN, COMMIT or ROLLBACK that is run in a later batch than the one that bound it, with an error or a
//! ROLLBACK TO in between (a few in ten thousand programs; the standard ones have none); a Query without a Sync before it
//! on a server since release 18, which leaves the transaction of both open; and everything about settings.

use std::fmt::Write;
use std::time::Duration;

use crate::stage::{A, B, Database, SCHEMA, Stage, difference};
use crate::wire::{
    Frontend, bind, close_portal, close_statement, copy_data, copy_done, copy_fail,
    describe_portal, describe_statement, execute, flush, function_call, parse, query, sync,
};

#[tokio::test]
async fn programs_of_one_session() {
    run(1, 0x5EED_0001).await;
}

#[tokio::test]
async fn programs_of_two_sessions() {
    run(2, 0x5EED_5EED).await;
}

async fn run(sessions: usize, seed: u64) {
    let setting = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let seed = setting("SHAREDDB_IT_SEED").unwrap_or(seed);
    let programs = setting("SHAREDDB_IT_PROGRAMS").unwrap_or(400);
    Database::with(SCHEMA, async |database| {
        let syncs = database.release().await >= 18;
        for number in 0..programs {
            let mut random = Random::new(seed.wrapping_add(number));
            random.syncs = syncs;
            let (program, plain) = make(database, &mut random, sessions).await;
            let shared = play_shared(database, &program).await;
            if let Some(found) = difference(&plain, &shared) {
                let program = shrink(database, program).await;
                let found = compare(database, &program).await.unwrap_or(found);
                panic!(
                    "seed {}, with {sessions} sessions:\n{found}",
                    seed.wrapping_add(number)
                );
            }
        }
    })
    .await;
}

/// One write of a session's.
#[derive(Clone, Debug)]
struct Step {
    session: usize,
    messages: Vec<Frontend>,
    /// The connection is dropped behind it.
    drops: bool,
}

/// How the session stands after a step.
enum Outcome {
    /// With the transaction status of the last ReadyForQuery.
    Open(u8),
    Ended,
}

async fn take(stage: &mut Stage<'_>, step: &Step) -> Outcome {
    if step.drops {
        stage.send(step.session, &step.messages).await;
        stage.drop_connection(step.session).await;
        return Outcome::Open(b'I');
    }
    let marker = [query(";"), query(";")];
    stage
        .send(step.session, &[&step.messages[..], &marker].concat())
        .await;
    let (mut marks, mut last) = (0, 0);
    loop {
        let Some(message) = stage.next_within(step.session, PATIENCE).await else {
            return Outcome::Ended;
        };
        match message.tag {
            b'I' => marks += 1,
            b'Z' if last != b'I' => marks = 0,
            b'Z' if marks == 2 => return Outcome::Open(message.status()),
            b'Z' => {}
            _ => marks = 0,
        }
        last = message.tag;
    }
}

/// A reply that takes so long never comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a program while it is played on plain sessions, which tells when a session may be left: only outside a block,
/// because a shared session would wait for another's block to end.
async fn make(
    database: &Database,
    random: &mut Random,
    sessions: usize,
) -> (Vec<Step>, Vec<String>) {
    let mut stage = Stage::plain(database);
    let mut program = Vec::new();
    let mut session = A;
    for _ in 0..2 + random.below(8) {
        let drops = random.below(25) == 0;
        let messages = if drops {
            random.last_words()
        } else {
            random.messages()
        };
        let step = Step {
            session,
            messages,
            drops,
        };
        let outcome = take(&mut stage, &step).await;
        program.push(step);
        match outcome {
            Outcome::Ended => break,
            Outcome::Open(b'I') if sessions > 1 => session = [A, B][random.below(2)],
            Outcome::Open(_) => {}
        }
    }
    let transcript = stage.close().await;
    clean(database).await;
    (program, comparable(transcript))
}

/// The transcript of a program on plain sessions; `None` where a session is left in its block.
async fn play_plain(database: &Database, program: &[Step]) -> Option<Vec<String>> {
    let mut stage = Stage::plain(database);
    let (mut status, mut session) = (b'I', A);
    let mut is_fit = true;
    for step in program {
        is_fit = status == b'I' || step.session == session;
        session = step.session;
        if !is_fit {
            break;
        }
        match take(&mut stage, step).await {
            Outcome::Open(next) => status = next,
            Outcome::Ended => break,
        }
    }
    let transcript = stage.close().await;
    clean(database).await;
    is_fit.then(|| comparable(transcript))
}

async fn play_shared(database: &Database, program: &[Step]) -> Vec<String> {
    let transaction = database.open().await;
    let mut stage = Stage::shared(database, &transaction);
    for step in program {
        if let Outcome::Ended = take(&mut stage, step).await {
            break;
        }
    }
    let transcript = stage.close().await;
    let mut lines = comparable(transcript);
    // One that hangs is only dropped: its end would take too long.
    if !lines.iter().any(|line| line.ends_with("(nothing)"))
        && let Err(error) = transaction.rollback().await
    {
        lines.push(format!("(the rollback failed: {error:?})"));
    }
    database.restart_sequences().await;
    lines
}

/// The lines without what may differ.
fn comparable(transcript: Vec<String>) -> Vec<String> {
    transcript
        .into_iter()
        // A shared session is always in a transaction block as far as the backend knows.
        .filter(|line| {
            !line.contains("25P01 \"SET CONSTRAINTS can only be used in transaction blocks\"")
        })
        // The backend says so when its savepoint is rolled back, where nobody is told.
        .filter(|line| !line.contains("WARNING 01000 \"skipping cleanup for portal"))
        // A plain client that breaks into its own COPY may find its connection reset before it has read why.
        .filter(|line| !line.contains("08P01"))
        .collect()
}

async fn compare(database: &Database, program: &[Step]) -> Option<String> {
    let plain = play_plain(database, program).await?;
    // Without its Sync, a program has the marker skipped.
    if plain.iter().any(|line| line.ends_with("(nothing)")) {
        return None;
    }
    difference(&plain, &play_shared(database, program).await)
}

/// Takes away what isn't needed for the difference.
async fn shrink(database: &Database, mut program: Vec<Step>) -> Vec<Step> {
    let mut step = program.len();
    while step > 0 {
        step -= 1;
        let mut fewer = program.clone();
        fewer.remove(step);
        if compare(database, &fewer).await.is_some() {
            program = fewer;
            continue;
        }
        let mut message = program[step].messages.len();
        while message > 0 {
            message -= 1;
            let mut fewer = program.clone();
            fewer[step].messages.remove(message);
            if compare(database, &fewer).await.is_some() {
                program = fewer;
            }
        }
    }
    program
}

async fn clean(database: &Database) {
    let sql = "DELETE FROM child; DELETE FROM parent; DELETE FROM c2; DELETE FROM p2; DELETE FROM t; DELETE FROM audit";
    database.observer.batch_execute(sql).await.unwrap();
    database.restart_sequences().await;
}

/// Numbers after Marsaglia's xorshift, and what is made of them.
struct Random {
    state: u64,
    /// Whether its programs have AND CHAIN, or else READ ONLY.
    chains: bool,
    /// Whether a Sync stands before each Query.
    syncs: bool,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            chains: false,
            syncs: false,
        };
        for _ in 0..8 {
            random.next();
        }
        random.chains = random.below(2) == 0;
        random
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 33) % bound as u64).unwrap()
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// What one write holds. Half of them are simple queries alone.
    fn messages(&mut self) -> Vec<Frontend> {
        let mut messages = Vec::new();
        if self.below(2) == 0 {
            for _ in 0..1 + self.below(3) {
                self.put_query(&mut messages);
            }
            return messages;
        }
        for _ in 0..2 + self.below(10) {
            self.put_extended(&mut messages);
        }
        // Without a Sync, what failed would have the marker skipped.
        messages.push(sync());
        messages
    }

    /// What is sent before the connection is dropped: nothing that is answered before its end, because a server that
    /// can't send may give up where it is.
    fn last_words(&mut self) -> Vec<Frontend> {
        let sql = self.statement().replace("FROM STDIN", "TO STDOUT");
        match self.below(4) {
            0 => Vec::new(),
            1 => vec![query(&sql)],
            2 => vec![parse("", &sql), bind("", "", &[]), execute("", 0)],
            _ => vec![parse("", &sql), bind("", "", &[]), execute("", 0), sync()],
        }
    }

    fn put_query(&mut self, messages: &mut Vec<Frontend>) {
        let mut text = String::new();
        let count = [1, 1, 1, 2, 3, 4][self.below(6)];
        let mut copies = 0;
        for index in 0..count {
            if index > 0 {
                text.push_str(self.one_of(&["; ", ";", " ;\n", "; /* ; */ ", ";; "]));
            }
            let statement = self.statement();
            copies += usize::from(statement.contains("STDIN"));
            text.push_str(&statement);
        }
        text.push_str(self.one_of(&["", "", "", ";", " -- done", ";;"]));
        messages.push(query(&text));
        for _ in 0..copies {
            self.put_copy(messages);
        }
    }

    /// The data of a COPY, whether it will be wanted or not: the server ignores what it didn't ask for.
    fn put_copy(&mut self, messages: &mut Vec<Frontend>) {
        for _ in 0..self.below(3) {
            messages.push(copy_data(
                self.one_of(&["1\n", "2\n3\n", "bad\n", "1\t1\n", "7\t70\n"]),
            ));
        }
        messages.push(match self.below(4) {
            0 => copy_fail("on purpose"),
            _ => copy_done(),
        });
    }

    fn put_extended(&mut self, messages: &mut Vec<Frontend>) {
        let statement = self.one_of(&["", "", "a", "b"]);
        let portal = self.one_of(&["", "", "p", "q"]);
        let rows = [0, 0, 0, 1, 2][self.below(5)];
        match self.below(20) {
            0..8 => {
                let sql = self.statement();
                messages.push(parse(statement, &sql));
                if self.below(3) == 0 {
                    messages.push(describe_statement(statement));
                }
                messages.push(bind(portal, statement, &[]));
                if self.below(3) == 0 {
                    messages.push(describe_portal(portal));
                }
                messages.push(execute(portal, rows));
                if sql.contains("STDIN") {
                    self.put_copy(messages);
                }
            }
            // A portal of a COPY that nobody feeds would take the marker for its data.
            8..10 => messages.push(parse(
                statement,
                &self.statement().replace("FROM STDIN", "TO STDOUT"),
            )),
            10..12 => messages.push(bind(portal, statement, &[])),
            12..14 => {
                let portal = if is_bound(messages) { portal } else { "p" };
                messages.push(execute(portal, rows));
                messages.push(copy_fail("in case that it was a COPY"));
            }
            14 => messages.push(describe_statement(statement)),
            15 => messages.push(close_statement(statement)),
            16 => messages.push(close_portal(portal)),
            17 => messages.push(flush()),
            18 => match self.below(4) {
                0 => messages.extend([sync(), function_call(177, &["1", "2"])]),
                1 => messages.extend([sync(), function_call(154, &["1", "0"])]),
                _ => {
                    messages.extend(self.syncs.then(sync));
                    self.put_query(messages);
                }
            },
            _ => messages.push(sync()),
        }
    }

    fn statement(&mut self) -> String {
        let statement = match self.below(10) {
            0..4 => self.one_of(&[
                "BEGIN",
                "BEGIN",
                "BEGIN READ ONLY",
                "START TRANSACTION",
                "START TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "COMMIT",
                "COMMIT",
                "END WORK",
                "ROLLBACK",
                "ABORT",
                "COMMIT AND CHAIN",
                "ROLLBACK AND CHAIN",
                "SAVEPOINT s1",
                "SAVEPOINT s2",
                "RELEASE s1",
                "ROLLBACK TO s1",
                "ROLLBACK TO SAVEPOINT s2",
                "begin /* nested /* comment */ */",
                "DEALLOCATE ALL",
            ]),
            4 => self.one_of(&[
                "SELECT 1/0",
                "SELECT nothing FROM t",
                "SELEC 1",
                "SELECT (1",
                "INSERT INTO parent VALUES (1), (1)",
                "SELECT 1 FROM nowhere",
            ]),
            5 => self.one_of(&[
                "SET CONSTRAINTS ALL DEFERRED",
                "SET CONSTRAINTS ALL IMMEDIATE",
                "LOCK TABLE audit IN SHARE MODE",
                "DECLARE c CURSOR FOR SELECT generate_series(1, 4)",
                "FETCH 1 FROM c",
                "FETCH 2 FROM c",
                "CLOSE c",
                "COPY parent FROM STDIN",
                "COPY child FROM STDIN",
                "COPY audit FROM STDIN",
                "COPY (SELECT id FROM parent ORDER BY id) TO STDOUT",
                "COPY (SELECT 1/0) TO STDOUT",
            ]),
            6 => self.one_of(&[
                "SELECT generate_series(1, 3)",
                "SELECT v FROM t ORDER BY v",
                "SELECT id FROM parent ORDER BY id",
                "SELECT id, pid FROM child ORDER BY id",
                "SELECT count(*) FROM audit",
                "SELECT 'a;b', $$c;d$$",
            ]),
            _ => {
                let number = self.below(4);
                let mut text = String::new();
                match self.below(8) {
                    0 | 1 => write!(text, "INSERT INTO t(v) VALUES ('v{number}')"),
                    2 => write!(text, "INSERT INTO parent VALUES ({number})"),
                    3 => write!(
                        text,
                        "INSERT INTO child VALUES ({number}, {})",
                        self.below(4)
                    ),
                    4 => write!(text, "INSERT INTO c2 VALUES ({number})"),
                    5 => write!(text, "INSERT INTO p2 VALUES ({number}) RETURNING id"),
                    6 => write!(text, "DELETE FROM parent WHERE id = {number}"),
                    _ => write!(text, "DELETE FROM t WHERE v = 'v{number}' RETURNING v"),
                }
                .unwrap();
                return text;
            }
        };
        match self.chains {
            true => statement.replace(" READ ONLY", ""),
            false => statement.replace(" AND CHAIN", ""),
        }
    }
}

/// Whether the unnamed portal is surely the one that these messages have bound, if there is one at all.
///
/// A simple query that fails in a block leaves PostgreSQL with an unnamed portal of its own, which can't be run: there
/// is an error of one sort or another, and where the string had several statements the server dies of a segmentation
/// fault (seen with 15.18). A shared session has no such portal.
fn is_bound(messages: &[Frontend]) -> bool {
    messages
        .iter()
        .rev()
        .map(|message| &message.line[..])
        .take_while(|line| !line.starts_with("Query") && *line != "Sync")
        .any(|line| line.starts_with("Bind \"\" "))
}
