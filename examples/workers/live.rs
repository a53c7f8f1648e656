//! Live tests: the workers' clients are in the test's transaction, too, and end with the server.

use std::net::TcpListener;

use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::dev::Server;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

#[derive(Default)]
struct Workers {
    /// A job that was there before the server was.
    old: i32,
}

impl LiveServerTestCase for Workers {
    fn schema() -> Schema {
        Schema::dir("examples/workers")
    }

    /// Room for the workers, and for the handlers beside them.
    fn config() -> Config {
        Config::new().pool_max_size(super::WORKERS + 2)
    }

    async fn prepare(&mut self, pool: &Pool) -> Result<()> {
        let insert = "INSERT INTO jobs (text) VALUES ('left by yesterday''s server') RETURNING id";
        self.old = pool.get().await?.query_one(insert, &[]).await?.get("id");
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(super::run(listener, pool)?)
    }
}

/// What came of the job at this path; answered when it has ended.
async fn outcome(live: &LiveServer, path: &str) -> Result<Value> {
    Ok(live.get(path).send().await?.json().await?)
}

/// Adds a job, and tells where to ask for it.
async fn add(live: &LiveServer, text: &'static str) -> Result<String> {
    let added = live.post("/jobs").send_body(text).await?;
    assert_eq!(added.status(), 202);
    Ok(added
        .headers()
        .get("location")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned())
}

live_server! {
    impl Workers {
        async fn a_job_is_done(&mut self, live: &LiveServer) -> Result<()> {
            let path = add(live, "so many words").await?;
            let done = json!({ "state": "done", "attempts": 1, "outcome": "3" });
            assert_eq!(outcome(live, &path).await?, done);
            Ok(())
        }

        async fn a_job_from_before_the_start_is_done(&mut self, live: &LiveServer) -> Result<()> {
            let done = json!({ "state": "done", "attempts": 1, "outcome": "4" });
            assert_eq!(outcome(live, &format!("/jobs/{}", self.old)).await?, done);
            Ok(())
        }

        async fn a_job_that_fails_is_tried_again_and_holds_nobody_up(&mut self, live: &LiveServer) -> Result<()> {
            let bad = add(live, " ").await?;
            let good = add(live, "words").await?;
            let failed = json!({ "state": "failed", "attempts": 3, "outcome": "there are no words" });
            assert_eq!(outcome(live, &bad).await?, failed);
            assert_eq!(outcome(live, &good).await?["state"], "done");
            Ok(())
        }

        async fn many_jobs_are_each_done_once(&mut self, live: &LiveServer) -> Result<()> {
            let paths = try_join_all((0..30).map(|_| add(live, "one two"))).await?;
            let outcomes = try_join_all(paths.iter().map(|path| outcome(live, path))).await?;
            for job in outcomes {
                assert_eq!(job, json!({ "state": "done", "attempts": 1, "outcome": "2" }));
            }
            Ok(())
        }

        async fn an_unknown_job_is_not_found(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.get("/jobs/-1").send().await?.status(), 404);
            Ok(())
        }
    }
}
