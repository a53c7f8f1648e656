//! What a test that fails says, and what still happens to it.

use std::any::Any;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, io, panic, thread};

use actix_shareddb::__private::{Outcome, run};
use actix_shareddb::{
    DatabaseUrls, Error, LiveServer, LiveServerTestCase, Pool, Result, live_server,
};
use actix_web::HttpServer;
use actix_web::dev::Server;

use super::Plain;
use super::app::{self, App};

/// Runs a test that fails, and returns what it panics with.
fn failure<C, R>(
    test: impl AsyncFnOnce(&mut C, &LiveServer) -> R + Send + 'static,
) -> Box<dyn Any + Send>
where
    C: LiveServerTestCase,
    R: Outcome,
{
    // A thread of its own, as the test harness gives it to a test.
    thread::spawn(|| run("it::a_test", test))
        .join()
        .expect_err("the test passed")
}

/// The same, for a failure that is told in words.
fn message<C, R>(test: impl AsyncFnOnce(&mut C, &LiveServer) -> R + Send + 'static) -> String
where
    C: LiveServerTestCase,
    R: Outcome,
{
    match failure(test).downcast::<String>() {
        Ok(words) => *words,
        Err(payload) => payload.downcast_ref::<&str>().expect("words").to_string(),
    }
}

#[test]
fn an_error_of_the_test_is_its_failure() {
    let message = message(async |_: &mut Plain, _: &LiveServer| Err::<(), _>("no milk"));
    assert_eq!(message, "the test failed: \"no milk\"");
}

#[test]
fn a_panic_of_the_test_keeps_its_payload() {
    let payload =
        failure(async |_: &mut Plain, _: &LiveServer| -> Result<()> { panic::panic_any(42) });
    assert_eq!(payload.downcast_ref(), Some(&42));
}

#[test]
fn an_error_of_the_test_shows_the_panic_of_the_handler() {
    let message = message(async |_: &mut Plain, live: &LiveServer| -> Result<()> {
        live.get("/panic").send().await?;
        Ok(())
    });
    let (before, after) = message
        .split_once("\nin the server, thread 'actix-rt|system:")
        .expect(&message);
    assert!(before.starts_with("the test failed: the HTTP request failed\n  caused by: "));
    let (_, after) = after.split_once("' panicked at ").expect(after);
    let (location, words) = after.split_once('\n').expect(after);
    assert!(location.contains("app.rs:"), "{location}");
    assert_eq!(words, "  no such list");
}

#[test]
fn handler_panics_are_told_to_their_own_test_only() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let message = message(async |_: &mut Plain, live: &LiveServer| {
                    assert!(live.get("/panic").send().await.is_err());
                    Err::<(), _>("on purpose")
                });
                assert_eq!(message.matches("in the server, ").count(), 1, "{message}");
            });
        }
    });
}

/// Fails where its parameters say, and counts the calls to `tear_down` for a test that asks for it.
#[derive(Default)]
struct Failing<const PREPARE: bool, const SET_UP: bool, const TEAR_DOWN: bool> {
    torn_down: Option<&'static AtomicUsize>,
}

impl<const PREPARE: bool, const SET_UP: bool, const TEAR_DOWN: bool> LiveServerTestCase
    for Failing<PREPARE, SET_UP, TEAR_DOWN>
{
    async fn prepare(&mut self, _: &Pool) -> Result<()> {
        if PREPARE {
            return Err(Error::other("no mock server"));
        }
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(app::run(listener, pool, App::default())?)
    }

    async fn set_up(&mut self, _: &LiveServer) -> Result<()> {
        if SET_UP {
            return Err(Error::other("no user 'alice'"));
        }
        Ok(())
    }

    async fn tear_down(&mut self, _: &LiveServer) -> Result<()> {
        if let Some(count) = self.torn_down {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if TEAR_DOWN {
            return Err(Error::other("the folder\nis not empty"));
        }
        Ok(())
    }
}

#[test]
fn an_error_of_prepare_is_the_failure() {
    let message = message(async |_: &mut Failing<true, false, true>, _: &LiveServer| {});
    assert_eq!(message, "`prepare` failed: no mock server");
}

#[derive(Default)]
struct Apart;

impl LiveServerTestCase for Apart {
    fn connect(&mut self, _: &DatabaseUrls<'_>) -> Result<()> {
        Err(Error::other("the other pool was not built"))
    }

    async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> {
        panic!("there is nothing to serve");
    }
}

#[test]
fn an_error_of_join_is_the_failure() {
    let message = message(async |_: &mut Apart, _: &LiveServer| {});
    assert_eq!(message, "`connect` failed: the other pool was not built");
}

#[test]
fn tear_down_runs_when_set_up_failed_and_the_test_does_not() {
    let message = message(
        async |_: &mut Failing<false, true, true>, _: &LiveServer| -> Result<()> {
            panic!("the test ran");
        },
    );
    assert_eq!(
        message,
        "`set_up` failed: no user 'alice'\n\
         also, `tear_down` failed: the folder\n  is not empty"
    );
}

#[test]
fn an_error_of_tear_down_fails_a_test_that_passed() {
    let message = message(async |_: &mut Failing<false, false, true>, _: &LiveServer| {});
    assert_eq!(message, "`tear_down` failed: the folder\nis not empty");
}

#[test]
fn an_error_of_tear_down_is_told_after_that_of_the_test() {
    let message = message(
        async |_: &mut Failing<false, false, true>, _: &LiveServer| Err::<(), _>("no milk"),
    );
    assert_eq!(
        message,
        "the test failed: \"no milk\"\n\
         also, `tear_down` failed: the folder\n  is not empty"
    );
}

#[test]
fn tear_down_runs_after_a_panic() {
    static TORN_DOWN: AtomicUsize = AtomicUsize::new(0);
    let message = message(
        async |case: &mut Failing<false, false, false>, _: &LiveServer| -> Result<()> {
            case.torn_down = Some(&TORN_DOWN);
            panic!("no milk");
        },
    );
    assert_eq!(message, "no milk");
    assert_eq!(TORN_DOWN.load(Ordering::SeqCst), 1);
}

/// A case whose `serve` is the function of its number.
#[derive(Default)]
struct Serving<const NUMBER: usize>;

const SERVE: [fn(TcpListener, Pool) -> io::Result<Server>; 4] = [
    |_, _| Err(io::Error::other("no certificate")),
    |_, _| panic!("no configuration"),
    |listener, _| {
        let factory = || {
            assert!(env::var_os("NO_SUCH_VARIABLE").is_some(), "no templates");
            actix_web::App::new()
        };
        Ok(HttpServer::new(factory).workers(1).listen(listener)?.run())
    },
    |listener, pool| {
        let server = app::run(listener, pool, App::default())?;
        let stop = server.handle();
        actix_web::rt::spawn(async move { stop.stop(false).await });
        Ok(server)
    },
];

impl<const NUMBER: usize> LiveServerTestCase for Serving<NUMBER> {
    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(SERVE[NUMBER](listener, pool)?)
    }

    async fn tear_down(&mut self, _: &LiveServer) -> Result<()> {
        // Only a server that came up has anything to be torn down.
        assert_eq!(NUMBER, 3);
        Ok(())
    }
}

#[test]
fn an_error_of_serve_is_the_failure() {
    let message = message(async |_: &mut Serving<0>, _: &LiveServer| {});
    assert_eq!(message, "`serve` failed\n  caused by: no certificate");
}

#[test]
fn a_panic_of_serve_is_raised_in_the_test() {
    let message = message(async |_: &mut Serving<1>, _: &LiveServer| {});
    assert_eq!(message, "no configuration");
}

#[test]
fn a_worker_that_does_not_start_is_the_failure() {
    let message = message(async |_: &mut Serving<2>, _: &LiveServer| {});
    let (before, after) = message.split_once("\nin the server, ").expect(&message);
    assert!(
        before.starts_with("the server did not start\n  caused by: "),
        "{before}"
    );
    assert!(after.ends_with("\n  no templates"), "{after}");
}

#[test]
fn a_server_that_is_stopped_by_its_application_fails_the_test() {
    let message = message(
        async |_: &mut Serving<3>, live: &LiveServer| {
            while live.get("/method").send().await.is_ok() {}
        },
    );
    assert_eq!(
        message,
        "the server was stopped while the test ran\n  \
         help: the application stopped it through its `ServerHandle`; the test's end does that"
    );
}

live_server! {
    impl Plain {
        #[ignore = "fails on purpose, under `a_panic_is_shown_where_it_happened_with_that_of_the_handler`"]
        async fn panics_after_its_handler(&self, live: &LiveServer) {
            let response = live.get("/panic").send().await;
            assert!(response.is_ok(), "line {}", line!());
        }

        #[cfg(unix)]
        #[ignore = "ends its process, under `a_signal_ends_the_process`"]
        async fn terminates_itself(&self, _: &LiveServer) {
            signal_oneself("TERM");
            tokio::time::sleep(LONG).await;
            panic!("the signal was swallowed");
        }
    }
}

#[cfg(unix)]
#[ignore = "ends its process, under `a_signal_ends_the_process`"]
#[test]
fn interrupts_itself_when_its_server_has_gone() {
    run("it::gone", async |_: &mut Plain, _: &LiveServer| {});
    signal_oneself("INT");
    thread::sleep(LONG);
    panic!("the signal was swallowed");
}

/// Passes only when a signal is swallowed.
#[cfg(unix)]
const LONG: Duration = Duration::from_secs(30);

#[cfg(unix)]
fn signal_oneself(signal: &str) {
    let kill = format!("kill -{signal} $PPID");
    let status = Command::new("sh").args(["-c", &kill]).status();
    // It may come too late to see how the shell fared.
    assert!(status.is_ok());
}

/// Runs one of the tests above in a process of its own; returns its exit code and all that it printed.
pub(crate) fn child(test: &str) -> (Option<i32>, String) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let mut printed = String::from_utf8(output.stdout).unwrap();
    printed.push_str(&String::from_utf8(output.stderr).unwrap());
    (output.status.code(), printed)
}

#[test]
fn a_panic_is_shown_where_it_happened_with_that_of_the_handler() {
    let (code, printed) = child("live::failures::panics_after_its_handler");
    assert_eq!(code, Some(101), "{printed}");
    let captured = printed
        .split("---- live::failures::panics_after_its_handler stdout ----")
        .nth(1)
        .expect(&printed);
    let line = captured.split("\nline ").nth(1).expect(captured);
    let line = line.split('\n').next().expect(line);
    assert!(
        captured.contains(&format!("panicked at tests/it/live/failures.rs:{line}:")),
        "{captured}"
    );
    assert!(
        captured.contains("\nin the server, thread 'actix-rt|"),
        "{captured}"
    );
    assert!(captured.contains("\n  no such list\n"), "{captured}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_process() {
    for (test, expected) in [
        ("live::failures::terminates_itself", 128 + 15),
        (
            "live::failures::interrupts_itself_when_its_server_has_gone",
            128 + 2,
        ),
    ] {
        let (code, printed) = child(test);
        assert_eq!(code, Some(expected), "{printed}");
    }
}
