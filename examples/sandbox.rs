//! A database that forgets: whatever its clients commit is rolled back in the end.
//!
//! ```sh
//! cargo run --release --example sandbox -- --listen 127.0.0.1:5433 --database-url postgres://localhost/todo
//! ```
//!
//! It prints the URL at which any PostgreSQL client joins. All of them work in one transaction, which is rolled back on
//! SIGINT or SIGTERM, so a script can be tried out, or a frontend be tested against real data, as often as it takes.
//! Without `--database-url` it takes `DATABASE_URL`, or a private, empty server made from the PostgreSQL that is installed.
//!
//! * `--rollback-when-idle` rolls back and begins anew whenever the last client has gone, and says so.
//! * `--no-password` lets everybody in who reaches the address.

use std::env;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use actix_shareddb::{Config, Error, Result, Schema, SharedTransaction};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    run(env::args().skip(1)).await
}

async fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let sandbox = Sandbox::from_arguments(arguments)?;
    let tell = |line: &str| writeln!(io::stdout(), "{line}");
    sandbox.serve(told_to_stop()?, tell).await
}

#[derive(Debug)]
struct Sandbox {
    listener: TcpListener,
    password: Option<String>,
    rollback_when_idle: bool,
    config: Config,
}

impl Sandbox {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut address = "127.0.0.1:5433".to_owned();
        let mut password = Some(password());
        let mut rollback_when_idle = false;
        // People pause amid a transaction, tests don't.
        let mut config = Config::new().idle_in_transaction_timeout(Duration::from_secs(60));
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || Error::other(format!("{argument} needs a value"));
                arguments.next().ok_or_else(missing)
            };
            match &argument[..] {
                "--listen" => address = value()?,
                "--database-url" => config = config.database_url(value()?),
                "--rollback-when-idle" => rollback_when_idle = true,
                "--no-password" => password = None,
                _ => {
                    return Err(Error::other(format!(
                        "unknown argument {argument:?}; {USAGE}"
                    )));
                }
            }
        }
        let listener = TcpListener::bind(&address)
            .map_err(|error| Error::other(format!("{address} can't be listened at: {error}")))?;
        Ok(Self {
            listener,
            password,
            rollback_when_idle,
            config,
        })
    }

    /// Serves one transaction after the other until `stop` is ready.
    async fn serve(
        self,
        stop: impl Future<Output = ()>,
        tell: impl Fn(&str) -> io::Result<()>,
    ) -> Result<()> {
        let mut stop = pin!(stop);
        loop {
            let transaction = SharedTransaction::open(&Schema::existing(), &self.config).await?;
            // A duplicate, so that clients can connect, and wait, between two transactions.
            let listener = self.listener.try_clone()?;
            tell(&transaction.listen(listener, self.password.as_deref())?)?;
            let stopped = tokio::select! {
                () = &mut stop => true,
                () = transaction.last_client_gone(), if self.rollback_when_idle => false,
            };
            let rolled_back = transaction.rollback().await;
            if stopped {
                return rolled_back;
            }
            match rolled_back {
                Ok(()) => tell("rolled back")?,
                Err(error) => tell(&format!("{error:?}"))?,
            }
        }
    }
}

const USAGE: &str =
    "sandbox [--listen ADDRESS] [--database-url URL] [--rollback-when-idle] [--no-password]";

fn password() -> String {
    let state = RandomState::new();
    format!("{:016x}{:016x}", state.hash_one(0), state.hash_one(1))
}

/// Starts to listen for the signals; ready when one has come.
#[cfg(unix)]
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Starts to listen for Ctrl-C; ready when it has come.
#[cfg(windows)]
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::sync::oneshot;
    use tokio_postgres::NoTls;

    use super::*;

    /// How many clients have been there, by the table that each of them writes to.
    async fn visit(url: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let visit = async move {
            let sql = "CREATE TABLE IF NOT EXISTS sandbox_visits (v text); INSERT INTO sandbox_visits VALUES ('x')";
            client.batch_execute(sql).await.unwrap();
            let row = client
                .query_one("SELECT count(*) FROM sandbox_visits", &[])
                .await;
            row.unwrap().get(0)
        };
        tokio::join!(visit, connection).0
    }

    /// Plays a test on a sandbox with these arguments, whose lines it gets.
    async fn with_sandbox(arguments: &[&str], test: impl AsyncFnOnce(UnboundedReceiver<String>)) {
        let arguments = ["--listen", "127.0.0.1:0"].iter().chain(arguments);
        let sandbox = Sandbox::from_arguments(arguments.map(|&text| text.to_owned())).unwrap();
        let (tell, told) = unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let tell = |line: &str| {
            // The test may be at its end.
            let _ = tell.send(line.to_owned());
            Ok(())
        };
        let serve = sandbox.serve(async { drop(stopped.await) }, tell);
        let test = async {
            test(told).await;
            drop(stop);
        };
        tokio::join!(serve, test).0.unwrap();
    }

    #[tokio::test]
    async fn clients_see_what_went_before() {
        with_sandbox(&[], async |mut told| {
            let url = told.recv().await.unwrap();
            for count in 1..=3 {
                assert_eq!(visit(&url).await, count);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn every_visit_is_the_first_when_it_rolls_back_in_between() {
        with_sandbox(&["--rollback-when-idle"], async |mut told| {
            let url = told.recv().await.unwrap();
            for _ in 0..3 {
                assert_eq!(visit(&url).await, 1);
                assert_eq!(told.recv().await.unwrap(), "rolled back");
                assert_eq!(told.recv().await.unwrap(), url);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn without_a_password_the_url_names_none() {
        with_sandbox(&["--no-password"], async |mut told| {
            let url = told.recv().await.unwrap();
            let config: tokio_postgres::Config = url.parse().unwrap();
            assert_eq!(config.get_password(), None);
            assert_eq!(visit(&url).await, 1);
        })
        .await;
    }

    /// What is written in it, and left open, is gone when the program has been told to stop.
    #[cfg(unix)]
    mod signals {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Child, ChildStdout, Command, Stdio};

        use tokio_postgres::error::SqlState;

        use super::*;

        /// Tells `the_program` what it is started with.
        const ARGUMENTS: &str = "SANDBOX_ARGUMENTS";

        /// The program, in a process that the other tests start.
        #[tokio::test]
        #[ignore = "the other tests start it"]
        async fn the_program() {
            let arguments = env::var(ARGUMENTS).expect("it is started by another test");
            let arguments = arguments.split_whitespace().map(str::to_owned);
            run(arguments).await.unwrap();
        }

        /// A process that is killed if its test fails.
        struct Program(Child);

        impl Program {
            fn start(arguments: &str) -> (Self, BufReader<ChildStdout>) {
                let mut child = Command::new(env::current_exe().unwrap())
                    .args(["tests::signals::the_program", "--exact", "--ignored"])
                    .env(ARGUMENTS, arguments)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let lines = BufReader::new(child.stdout.take().unwrap());
                (Self(child), lines)
            }
        }

        impl Drop for Program {
            fn drop(&mut self) {
                // It may have ended already.
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }

        async fn ends_at(signal: &str) {
            let (mut program, lines) = Program::start("--listen 127.0.0.1:0");
            // They are read for as long as it runs, because it couldn't print otherwise.
            let mut lines = lines.lines().map(|line| line.unwrap());
            let url = lines
                .find(|line| line.starts_with("postgres://"))
                .expect("it tells its URL");
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let table = format!("sandbox_signal_{}", signal.to_lowercase());
            let sql = format!("CREATE TABLE {table} (); SELECT pg_backend_pid()");
            let messages = client.simple_query(&sql).await.unwrap();
            let process = messages.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let process: i32 = process.unwrap().parse().unwrap();
            client
                .batch_execute(&format!("BEGIN; INSERT INTO {table} DEFAULT VALUES"))
                .await
                .unwrap();

            let id = program.0.id().to_string();
            let sent = Command::new("kill").args(["-s", signal, &id]).status();
            assert!(sent.unwrap().success());
            assert_eq!(program.0.wait().unwrap().code(), Some(0), "{signal}");
            let told = connection.await.unwrap().unwrap_err();
            assert_eq!(told.code(), Some(&SqlState::ADMIN_SHUTDOWN), "{told}");

            let transaction = SharedTransaction::open(&Schema::existing(), &Config::new()).await;
            let transaction = transaction.unwrap();
            let client = transaction.pool().unwrap().get().await.unwrap();
            let is_left = format!(
                "SELECT to_regclass('{table}') IS NOT NULL \
                 OR EXISTS (SELECT FROM pg_stat_activity WHERE pid = {process})"
            );
            // A server takes its time to notice that a connection has ended.
            while client.query_one(&is_left, &[]).await.unwrap().get(0) {
                tokio::task::yield_now().await;
            }
            drop(client);
            transaction.rollback().await.unwrap();
        }

        #[tokio::test]
        async fn an_interrupt_rolls_back() {
            ends_at("INT").await;
        }

        #[tokio::test]
        async fn a_termination_rolls_back() {
            ends_at("TERM").await;
        }

        #[test]
        fn an_error_is_no_success() {
            let (mut program, _lines) = Program::start("--listen nowhere");
            assert_ne!(program.0.wait().unwrap().code(), Some(0));
        }
    }

    #[tokio::test]
    async fn another_database_is_refused_by_its_name() {
        with_sandbox(&[], async |mut told| {
            let url = told.recv().await.unwrap();
            let mut config: tokio_postgres::Config = url.parse().unwrap();
            let served = config.get_dbname().unwrap().to_owned();
            let Err(error) = config.dbname("elsewhere").connect(NoTls).await else {
                panic!("it was let in");
            };
            let error = error.as_db_error().unwrap();
            assert_eq!(error.message(), "database \"elsewhere\" does not exist");
            let hint = format!("This socket serves \"{served}\" alone.");
            assert_eq!(error.hint(), Some(&hint[..]));
            // Whoever asks for it by any name of a user is welcome.
            config.dbname(&served).user("whoever");
            let (_client, connection) = config.connect(NoTls).await.unwrap();
            drop(connection);
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let url = format!("postgres://alice@{address}/todo");
        let arguments = ["--listen", "127.0.0.1:0", "--database-url", &url];
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        let sandbox = Sandbox::from_arguments(arguments).unwrap();
        let served = sandbox.serve(std::future::pending(), |_| Ok(())).await;
        let text = served.unwrap_err().to_string();
        let expected =
            format!("no connection to PostgreSQL at {address} (user 'alice', database 'todo')");
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn an_unknown_argument_is_refused() {
        let arguments = ["--help".to_owned()].into_iter();
        let error = Sandbox::from_arguments(arguments).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unknown argument \"--help\"; {USAGE}")
        );
    }

    #[test]
    fn an_argument_without_its_value_is_refused() {
        for argument in ["--listen", "--database-url"] {
            let arguments = [argument.to_owned()].into_iter();
            let error = Sandbox::from_arguments(arguments).unwrap_err();
            assert_eq!(error.to_string(), format!("{argument} needs a value"));
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let used = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = used.local_addr().unwrap().to_string();
        let arguments = ["--listen".to_owned(), address.clone()].into_iter();
        let error = Sandbox::from_arguments(arguments).unwrap_err();
        let text = error.to_string();
        let expected = format!("{address} can't be listened at: ");
        assert!(text.starts_with(&expected), "{text}");
    }
}
