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
    let sandbox = Sandbox::from_arguments(env::args().skip(1))?;
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
        let mut config = Config::new().lease_timeout(Duration::from_secs(60));
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
