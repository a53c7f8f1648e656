//! What those are told who log by `tracing`.

use std::env;
use std::fmt::{Debug, Write as _};
use std::process::Command;
use std::sync::{Arc, Mutex};

use actix_shareddb::{LiveServer, Result, live_server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::queries::Lists;

/// Writes down each event of this crate's on a line: its target, and its fields but for times.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("actix_shareddb")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        match name {
            "duration" => write!(self.0, " {name}"),
            _ => write!(self.0, " {name}={value:?}"),
        }
        .unwrap();
    }
}

live_server! {
    impl Lists {
        #[ignore = "sets the subscriber of its process, under `each_statement_and_each_exchange_is_an_event`"]
        async fn is_told(&self, live: &LiveServer) -> Result<()> {
            let client = live.pool().get().await?;
            client.batch_execute("SELECT 0").await?;
            let lines = Lines::default();
            tracing::subscriber::set_global_default(lines.clone()).unwrap();
            client.batch_execute("SELECT 1; SELECT 2").await?;
            live.get("/taken").send().await?;
            let mut lines = lines.0.lock().unwrap().clone();
            // Nobody awaits the answer to the ROLLBACK, so it may come later than the response.
            lines.retain(|line| !line.contains("ROLLBACK"));
            assert_eq!(lines, EXPECTED.trim().lines().collect::<Vec<_>>());
            Ok(())
        }
    }
}

const EXPECTED: &str = r#"
actix_shareddb::query session=1 duration tag="SELECT 1" sql="SELECT 1"
actix_shareddb::query session=1 duration tag="SELECT 1" sql="SELECT 2"
actix_shareddb::query session=2 duration tag="START TRANSACTION" sql="START TRANSACTION"
actix_shareddb::query session=2 duration tag="INSERT 0 1" sql="INSERT INTO list VALUES (1, 'a')"
actix_shareddb::query session=2 duration sqlstate="23505" error="duplicate key value violates unique constraint \"list_pkey\"" sql="INSERT INTO list VALUES (1, 'a')"
actix_shareddb::exchange method="GET" path="/taken" duration outcome="409 Conflict"
"#;

#[test]
fn each_statement_and_each_exchange_is_an_event() {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "logs::is_told", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
