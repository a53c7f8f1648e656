//! Live tests: files that are good, bad, long, and never whole.

use std::io;
use std::net::TcpListener;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::dev::Server;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

#[derive(Default)]
struct Upload;

impl LiveServerTestCase for Upload {
    fn schema() -> Schema {
        Schema::dir("examples/upload")
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(super::run(listener, pool)?)
    }
}

async fn count(live: &LiveServer) -> Result<i64> {
    let client = live.pool().get().await?;
    let row = client
        .query_one("SELECT count(*) FROM readings", &[])
        .await?;
    Ok(row.get(0))
}

const HEADER: &str = "sensor,taken_at,celsius\n";

/// Midnight in January, in the temperatures given.
fn january(days: impl IntoIterator<Item = i32>) -> String {
    let lines = days
        .into_iter()
        .zip(1..)
        .map(|(celsius, day)| format!("roof,2026-01-{day:02} 00:00:00+00,{celsius}\n"));
    HEADER.to_owned() + &lines.collect::<String>()
}

live_server! {
    impl Upload {
        async fn what_was_uploaded_is_downloaded(&mut self, live: &LiveServer) -> Result<()> {
            let uploaded: Value = live.put("/readings").send_body(january([-3, -1, 2])).await?.json().await?;
            assert_eq!(uploaded, json!({ "read": 3, "stored": 3 }));

            let mut response = live.get("/readings").send().await?;
            assert_eq!(response.headers().get("content-type").unwrap(), "text/csv");
            let file = response.body().await?;
            live.pool().get().await?.execute("DELETE FROM readings", &[]).await?;
            let again: Value = live.put("/readings").send_body(file.clone()).await?.json().await?;
            assert_eq!(again, json!({ "read": 3, "stored": 3 }));
            assert_eq!(live.get("/readings").send().await?.body().await?, file);
            Ok(())
        }

        async fn a_file_that_comes_again_changes_what_is_new(&mut self, live: &LiveServer) -> Result<()> {
            live.put("/readings").send_body(january([-3, -1])).await?;
            // The temporary table of the first upload ended with its transaction, as in production.
            let uploaded: Value = live.put("/readings").send_body(january([-3, 0, 2])).await?.json().await?;
            assert_eq!(uploaded, json!({ "read": 3, "stored": 2 }));
            assert_eq!(count(live).await?, 3);
            Ok(())
        }

        async fn a_bad_line_is_named_and_nothing_is_kept(&mut self, live: &LiveServer) -> Result<()> {
            for (line, problem) in [
                ("roof,2026-01-02,cold\n", "invalid input syntax for type real: \"cold\" (COPY incoming, line 3, column celsius: \"cold\")"),
                ("roof,2026-01-02\n", "missing data for column \"celsius\" (COPY incoming, line 3: \"roof,2026-01-02\")"),
                ("roof,2026-01-02,\n", "null value in column \"celsius\" of relation \"incoming\" violates not-null constraint (COPY incoming, line 3: \"roof,2026-01-02,\")"),
            ] {
                let file = january([1]) + line;
                let mut refused = live.put("/readings").send_body(file).await?;
                assert_eq!(refused.status(), 422);
                assert_eq!(refused.body().await?, problem);
                assert_eq!(count(live).await?, 0);
            }
            let uploaded = live.put("/readings").send_body(january([1])).await?;
            assert_eq!(uploaded.status(), 200);
            Ok(())
        }

        /// Whatever the handler is at when the client is gone, the count waits for its transaction to end.
        async fn a_file_that_breaks_off_leaves_nothing(&mut self, live: &LiveServer) -> Result<()> {
            let half = Bytes::from(january([1, 2, 3]));
            let broken = stream::iter([Ok(half), Err(io::Error::other("the cable was pulled"))]);
            let sent = live.put("/readings").send_stream(broken).await;
            assert!(sent.is_err());
            assert_eq!(count(live).await?, 0);
            Ok(())
        }

        async fn a_long_file_streams_both_ways(&mut self, live: &LiveServer) -> Result<()> {
            const LINES: usize = 100_000;
            let chunk = |number| {
                let lines = (0..100).map(|line| format!("roof,{},{number}\n", at(number * 100 + line)));
                Ok::<_, io::Error>(Bytes::from(lines.collect::<String>()))
            };
            let header = stream::iter([Ok(Bytes::from(HEADER))]);
            let file = header.chain(stream::iter((0..LINES / 100).map(chunk)));
            let uploaded: Value = live.put("/readings").send_stream(file).await?.json().await?;
            assert_eq!(uploaded["stored"], LINES);

            let mut response = live.get("/readings").send().await?;
            let file = response.body().limit(64 << 20).await?;
            assert_eq!(file.iter().filter(|&&byte| byte == b'\n').count(), LINES + 1);
            Ok(())
        }
    }
}

/// So many seconds into the year.
fn at(second: usize) -> String {
    let (minute, hour) = (second / 60, second / 3600);
    format!(
        "2026-01-{:02} {:02}:{:02}:{:02}+00",
        1 + hour / 24,
        hour % 24,
        minute % 60,
        second % 60
    )
}
