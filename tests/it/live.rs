//! The life of a test: what runs when, what a failure says, and how the server comes and goes.

mod app;
pub(crate) mod failures;
mod syntax;

use std::future::pending;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use actix_shareddb::__private::run;
use actix_shareddb::{
    Config, DatabaseUrls, LiveServer, LiveServerTestCase, Pool, Result, live_server,
};
use actix_web::dev::Server;
use actix_web::rt;
use futures_util::future::join;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use app::App;

/// The application, served as it is.
#[derive(Default)]
struct Plain;

impl LiveServerTestCase for Plain {
    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(app::run(listener, pool, App::default())?)
    }
}

live_server! {
    impl Plain {
        async fn every_method_reaches_the_server(&self, live: &LiveServer) -> Result<()> {
            for (request, method) in [
                (live.get("/method"), "GET"),
                (live.post("/method"), "POST"),
                (live.put("/method"), "PUT"),
                (live.patch("/method"), "PATCH"),
                (live.delete("/method"), "DELETE"),
                (live.options("/method"), "OPTIONS"),
            ] {
                assert_eq!(request.send().await?.body().await?, method);
            }
            assert_eq!(live.head("/method").send().await?.status(), 200);
            Ok(())
        }

        async fn the_url_is_one_that_any_client_can_use(&self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.url(""), format!("http://{}", live.addr()));
            assert_eq!(live.url("/method?a=b"), format!("http://{}/method?a=b", live.addr()));
            let mut response = live.client().get(live.url("/method")).send().await?;
            assert_eq!(response.body().await?, "GET");
            Ok(())
        }

        #[should_panic(expected = "the path \"method\" does not start with '/'")]
        async fn a_path_without_a_slash_is_refused(&self, live: &LiveServer) {
            let _ = live.get("method");
        }

        async fn debug_shows_where_the_server_is(&self, live: &LiveServer) {
            assert_eq!(
                format!("{live:?}"),
                format!("LiveServer {{ url: \"http://{}\", .. }}", live.addr())
            );
        }

        async fn a_redirect_is_shown_not_followed(&self, live: &LiveServer) -> Result<()> {
            let response = live.get("/redirect").send().await?;
            assert_eq!(response.status(), 303);
            assert_eq!(response.headers().get("location").unwrap(), "/method");
            Ok(())
        }

        async fn the_application_and_the_test_reach_the_database(&self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.get("/one").send().await?.body().await?, "1");
            let client = live.pool().get().await?;
            let one: i32 = client.query_one("SELECT 1", &[]).await?.get(0);
            assert_eq!(one, 1);
            Ok(())
        }

        /// Each of the two handlers blocks its thread until the other one has come.
        async fn several_workers_serve_at_once(&self, live: &LiveServer) -> Result<()> {
            let (one, other) = join(live.get("/meet").send(), live.get("/meet").send()).await;
            assert_ne!(one?.body().await?, other?.body().await?);
            Ok(())
        }

        async fn a_response_can_be_read_while_it_is_written(&self, live: &LiveServer) -> Result<()> {
            let mut response = live.get("/stream").send().await?;
            assert_eq!(response.next().await.unwrap()?, "first");
            assert_eq!(live.post("/stream").send().await?.status(), 200);
            assert_eq!(response.next().await.unwrap()?, "second");
            assert!(response.next().await.is_none());
            Ok(())
        }

        async fn a_web_socket_talks_both_ways(&self, live: &LiveServer) -> Result<()> {
            let (_, mut socket) = live.ws("/echo").connect().await?;
            socket.send(awc::ws::Message::Text("hello".into())).await.unwrap();
            let awc::ws::Frame::Text(echo) = socket.next().await.unwrap().unwrap() else {
                panic!("no text came back");
            };
            assert_eq!(echo, "hello");
            Ok(())
        }

        async fn a_handlers_panic_alone_fails_no_test(&self, live: &LiveServer) -> Result<()> {
            assert!(live.get("/panic").send().await.is_err());
            assert_eq!(live.get("/method").send().await?.status(), 200);
            Ok(())
        }
    }
}

/// Another case of the same application.
#[derive(Default)]
struct Other;

impl LiveServerTestCase for Other {
    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(app::run(listener, pool, App::default())?)
    }
}

/// Writes down what happens to it.
struct Diary;

static DIARY: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Diary {
    fn note(&self, event: &str) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        DIARY.lock().unwrap().push(format!("{event} on {thread}"));
    }
}

impl Default for Diary {
    fn default() -> Self {
        Self.note("default");
        Self
    }
}

impl LiveServerTestCase for Diary {
    fn connect(&mut self, _: &DatabaseUrls<'_>) -> Result<()> {
        self.note("join");
        Ok(())
    }

    async fn prepare(&mut self, _: &Pool) -> Result<()> {
        self.note("prepare");
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        self.note("serve");
        Ok(app::run(listener, pool, App::default())?)
    }

    async fn set_up(&mut self, _: &LiveServer) -> Result<()> {
        self.note("set_up");
        Ok(())
    }

    async fn tear_down(&mut self, _: &LiveServer) -> Result<()> {
        self.note("tear_down");
        Ok(())
    }
}

#[test]
fn the_parts_of_a_test_run_in_order_and_only_serve_on_the_servers_thread() {
    thread::Builder::new()
        .name("the test".to_owned())
        .spawn(|| {
            run(
                "it::live::diary",
                async |diary: &mut Diary, live: &LiveServer| {
                    diary.note("test");
                    live.get("/method").send().await.map(drop)
                },
            );
        })
        .unwrap()
        .join()
        .unwrap();

    assert_eq!(
        *DIARY.lock().unwrap(),
        [
            "default on the test",
            "join on the test",
            "prepare on the test",
            "serve on live-server live::diary",
            "set_up on the test",
            "test on the test",
            "tear_down on the test",
        ]
    );
}

#[test]
fn nothing_listens_when_a_test_has_ended() {
    let mut address = None;
    run("it::ended", async |_: &mut Plain, live: &LiveServer| {
        address = Some(live.addr());
    });
    assert!(TcpStream::connect(address.unwrap()).is_err());
}

/// Tells what happens in its server, to somebody who outlives it.
struct Told<const DRAIN_MILLIS: u64> {
    events: UnboundedSender<String>,
    told: Option<UnboundedReceiver<String>>,
}

impl<const DRAIN_MILLIS: u64> Default for Told<DRAIN_MILLIS> {
    fn default() -> Self {
        let (events, told) = unbounded_channel();
        let told = Some(told);
        Self { events, told }
    }
}

impl<const DRAIN_MILLIS: u64> LiveServerTestCase for Told<DRAIN_MILLIS> {
    fn config() -> Config {
        Config::default().drain_timeout(Duration::from_millis(DRAIN_MILLIS))
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let background = app::OnDrop::new(&self.events, "what `serve` spawned was dropped");
        tokio::spawn(async move {
            let _background = background;
            pending::<()>().await;
        });
        Ok(app::run(listener, pool, App::telling(&self.events))?)
    }
}

/// Sends a request, waits until the handler is entered, ends the test, and returns all that was told by the server.
fn left_in_flight<const DRAIN_MILLIS: u64>(path: &'static str) -> Vec<String> {
    let mut told = None;
    run(
        "it::in_flight",
        async |case: &mut Told<DRAIN_MILLIS>, live: &LiveServer| {
            rt::spawn(live.get(path).send());
            let told = told.insert(case.told.take().unwrap());
            assert_eq!(told.recv().await.unwrap(), "entered");
        },
    );
    let mut told = told.unwrap();
    // It ends when the server's last thread has ended.
    std::iter::from_fn(|| told.blocking_recv()).collect()
}

#[test]
fn an_http_request_in_flight_may_come_to_its_end() {
    let events = left_in_flight::<60_000>("/slow");
    assert_eq!(events[..2], ["finished", "dropped"], "{events:?}");
}

#[test]
fn an_http_request_that_outlasts_the_drain_timeout_is_dropped() {
    let events = left_in_flight::<0>("/stuck");
    assert!(events.iter().any(|event| event == "dropped"), "{events:?}");
}

#[test]
fn what_serve_spawns_is_dropped_with_the_server() {
    let events = left_in_flight::<0>("/stuck");
    assert!(
        events
            .iter()
            .any(|event| event == "what `serve` spawned was dropped"),
        "{events:?}"
    );
}
