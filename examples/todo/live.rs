//! Live tests of the todo application: a real server, the application's own pool, one transaction a test.
//!
//! They run at the same time, on one database, and none of them cleans up.

use std::net::TcpListener;

use actix_shareddb::{
    LiveServer, LiveServerTestCase, Pool, Result, Schema, assert_num_queries, live_server,
};
use actix_web::dev::Server;
use futures_util::future::try_join;
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use crate::app;

/// Two users, each with the ten points that everybody starts with.
#[derive(Default)]
struct Todos {
    alice: i32,
    bob: i32,
}

impl LiveServerTestCase for Todos {
    /// Applied once and kept; the tests only ever see the outcome.
    fn schema() -> Schema {
        Schema::dir("examples/todo/migrations")
    }

    /// The production entry point: the very function that `main` calls.
    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(app::run(listener, pool)?)
    }

    /// The fixture of every test, rolled back with the rest.
    async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
        let client = live.pool().get().await?;
        let insert = "INSERT INTO users (name) VALUES ($1) RETURNING id";
        self.alice = client.query_one(insert, &[&"alice"]).await?.get("id");
        self.bob = client.query_one(insert, &[&"bob"]).await?.get("id");
        Ok(())
    }
}

impl Todos {
    /// The balances of both, read past the application.
    async fn points(&self, live: &LiveServer) -> Result<(i32, i32)> {
        let client = live.pool().get().await?;
        let select = "SELECT points FROM users WHERE id = $1";
        let alice = client
            .query_one(select, &[&self.alice])
            .await?
            .get("points");
        let bob = client.query_one(select, &[&self.bob]).await?.get("points");
        Ok((alice, bob))
    }
}

live_server! {
    impl Todos {
        /// What one HTTP request writes, the next one reads.
        async fn a_todo_that_was_posted_is_listed(&mut self, live: &LiveServer) -> Result<()> {
            let todo = json!({ "owner": self.alice, "title": "milk" });
            let mut created = live.post("/todos").send_json(&todo).await?;
            assert_eq!(created.status(), 201);
            let created: Value = created.json().await?;
            assert_eq!(created["done"], false);

            let listed: Value = live.get("/todos").send().await?.json().await?;
            assert_eq!(listed, json!([created]));
            Ok(())
        }

        /// The test sees the rows that the application wrote, and the application those of the test.
        async fn the_test_and_the_application_share_rows(&mut self, live: &LiveServer) -> Result<()> {
            let todo = json!({ "owner": self.alice, "title": "written by the application" });
            live.post("/todos").send_json(&todo).await?;

            let client = live.pool().get().await?;
            let row = client.query_one("SELECT owner, title FROM todos", &[]).await?;
            assert_eq!(row.get::<_, i32>("owner"), self.alice);
            assert_eq!(row.get::<_, &str>("title"), "written by the application");

            client.execute("UPDATE todos SET title = 'written by the test'", &[]).await?;
            let listed: Value = live.get("/todos").send().await?.json().await?;
            assert_eq!(listed[0]["title"], "written by the test");
            Ok(())
        }

        /// A list can be narrowed to one owner.
        async fn todos_are_listed_by_owner(&mut self, live: &LiveServer) -> Result<()> {
            for (owner, title) in [(self.alice, "milk"), (self.bob, "bread"), (self.alice, "tea")] {
                live.post("/todos").send_json(&json!({ "owner": owner, "title": title })).await?;
            }
            let path = format!("/todos?owner={}", self.alice);
            let listed: Vec<Value> = live.get(&path).send().await?.json().await?;
            let titles: Vec<&Value> = listed.iter().map(|todo| &todo["title"]).collect();
            assert_eq!(titles, ["milk", "tea"]);
            Ok(())
        }

        /// A todo is changed, deleted, and then gone.
        async fn a_deleted_todo_is_not_found(&mut self, live: &LiveServer) -> Result<()> {
            let todo = json!({ "owner": self.alice, "title": "milk" });
            let created: Value = live.post("/todos").send_json(&todo).await?.json().await?;
            let path = format!("/todos/{}", created["id"]);

            let done = json!({ "done": true });
            let changed: Value = live.patch(&path).send_json(&done).await?.json().await?;
            assert_eq!((&changed["title"], &changed["done"]), (&json!("milk"), &json!(true)));

            assert_eq!(live.delete(&path).send().await?.status(), 204);
            assert_eq!(live.get(&path).send().await?.status(), 404);
            assert_eq!(live.delete(&path).send().await?.status(), 404);
            Ok(())
        }

        /// A refusal names the field, whether a handler found the fault or a foreign key did.
        async fn a_refusal_names_the_field(&mut self, live: &LiveServer) -> Result<()> {
            for (owner, title, field, error) in [
                (self.alice, " ", "title", "title must not be empty"),
                (-1, "milk", "owner", "owner is no user"),
            ] {
                let todo = json!({ "owner": owner, "title": title });
                let mut response = live.post("/todos").send_json(&todo).await?;
                assert_eq!(response.status(), 422);
                let refusal: Value = response.json().await?;
                assert_eq!(refusal, json!({ "field": field, "error": error }));
            }
            Ok(())
        }

        /// A statement that fails costs the test nothing but that statement, as in production.
        async fn a_taken_name_is_a_conflict_and_life_goes_on(&mut self, live: &LiveServer) -> Result<()> {
            let mut refused = live.post("/users").send_json(&json!({ "name": "alice" })).await?;
            assert_eq!(refused.status(), 409);
            assert_eq!(refused.json::<Value>().await?["error"], "name is taken");

            let alice = format!("/users/{}", self.alice);
            assert_eq!(live.get(&alice).send().await?.status(), 200);
            let created = live.post("/users").send_json(&json!({ "name": "carol" })).await?;
            assert_eq!(created.status(), 201);
            Ok(())
        }

        /// Each test has the unique name to itself: see the next one.
        async fn the_name_dora_is_free(&mut self, live: &LiveServer) -> Result<()> {
            let created = live.post("/users").send_json(&json!({ "name": "dora" })).await?;
            assert_eq!(created.status(), 201);
            Ok(())
        }

        /// The same name, whichever of the two tests runs first.
        async fn the_name_dora_is_free_here_too(&mut self, live: &LiveServer) -> Result<()> {
            let created = live.post("/users").send_json(&json!({ "name": "dora" })).await?;
            assert_eq!(created.status(), 201);
            Ok(())
        }

        /// What the application commits is there for the rest of the test.
        async fn a_transfer_moves_points(&mut self, live: &LiveServer) -> Result<()> {
            let transfer = json!({ "from": self.alice, "to": self.bob, "points": 4 });
            let transferred = live.post("/transfers").send_json(&transfer).await?;
            assert_eq!(transferred.status(), 201);
            assert_eq!(self.points(live).await?, (6, 14));
            Ok(())
        }

        /// What the application rolls back is gone: bob had been credited when the debit failed.
        async fn a_transfer_that_fails_moves_nothing(&mut self, live: &LiveServer) -> Result<()> {
            let transfer = json!({ "from": self.alice, "to": self.bob, "points": 11 });
            let mut refused = live.post("/transfers").send_json(&transfer).await?;
            assert_eq!(refused.status(), 409);
            assert_eq!(refused.json::<Value>().await?["error"], "points are more than there are");

            assert_eq!(self.points(live).await?, (10, 10));
            let client = live.pool().get().await?;
            let transfers = client.query("SELECT FROM transfers", &[]).await?;
            assert!(transfers.is_empty());
            Ok(())
        }

        /// Two HTTP requests at once: their transactions take turns, and only one finds enough points.
        async fn points_are_never_spent_twice(&mut self, live: &LiveServer) -> Result<()> {
            let transfer = json!({ "from": self.alice, "to": self.bob, "points": 6 });
            let send = || live.post("/transfers").send_json(&transfer);
            let (one, other) = try_join(send(), send()).await?;
            let mut statuses = [one.status().as_u16(), other.status().as_u16()];
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 409]);
            assert_eq!(self.points(live).await?, (4, 16));
            Ok(())
        }

        /// PostgreSQL may ask for a transaction to be tried again: while it runs, and when it is committed.
        #[isolation(Transaction)]
        async fn a_transfer_that_another_gets_in_the_way_of_is_tried_again(&mut self, live: &LiveServer) -> Result<()> {
            let deadlock = live.faults().on("FOR UPDATE").fail(SqlState::T_R_DEADLOCK_DETECTED);
            let conflict = live.faults().on_commit().fail(SqlState::T_R_SERIALIZATION_FAILURE);
            let transfer = json!({ "from": self.alice, "to": self.bob, "points": 4 });
            let transferred = live.post("/transfers").send_json(&transfer).await?;
            assert_eq!(transferred.status(), 201);
            assert_eq!((deadlock.hits(), conflict.hits()), (1, 1));
            assert_eq!(self.points(live).await?, (6, 14));
            Ok(())
        }

        /// It isn't tried for ever.
        #[isolation(Transaction)]
        async fn a_transfer_that_never_gets_through_moves_nothing(&mut self, live: &LiveServer) -> Result<()> {
            let conflict = live.faults().on_commit().times(10).fail(SqlState::T_R_SERIALIZATION_FAILURE);
            let transfer = json!({ "from": self.alice, "to": self.bob, "points": 4 });
            let refused = live.post("/transfers").send_json(&transfer).await?;
            assert_eq!((refused.status().as_u16(), conflict.hits()), (500, 3));
            assert_eq!(self.points(live).await?, (10, 10));
            Ok(())
        }

        /// A client of the pool whose connection is lost is replaced.
        #[isolation(Transaction)]
        async fn a_lost_connection_costs_one_request(&mut self, live: &LiveServer) -> Result<()> {
            live.faults().on_table("todos").disconnect();
            assert_eq!(live.get("/todos").send().await?.status(), 500);
            assert_eq!(live.get("/todos").send().await?.status(), 200);
            Ok(())
        }

        /// The list costs one query, however long it is.
        #[isolation(Transaction)]
        async fn the_list_costs_one_query(&mut self, live: &LiveServer) -> Result<()> {
            for title in ["milk", "bread", "tea"] {
                live.post("/todos").send_json(&json!({ "owner": self.alice, "title": title })).await?;
            }
            let mut listed = assert_num_queries!(live, 1, { live.get("/todos").send().await? });
            assert_eq!(listed.json::<Vec<Value>>().await?.len(), 3);
            Ok(())
        }

        /// Many cases from the same state.
        #[isolation(Transaction)]
        async fn what_can_be_transferred_is_what_there_is(&mut self, live: &LiveServer) -> Result<()> {
            let fixtures = live.checkpoint().await?;
            for (points, status, left) in [(1, 201, (9, 11)), (10, 201, (0, 20)), (11, 409, (10, 10))] {
                live.restore(&fixtures).await?;
                let transfer = json!({ "from": self.alice, "to": self.bob, "points": points });
                let response = live.post("/transfers").send_json(&transfer).await?;
                assert_eq!(response.status(), status);
                assert_eq!(self.points(live).await?, left);
            }
            Ok(())
        }

        /// The middleware runs as in production, for answers that are errors too.
        async fn every_response_carries_a_request_id(&mut self, live: &LiveServer) -> Result<()> {
            let named = live.get("/todos").insert_header(("x-request-id", "abc")).send().await?;
            assert_eq!(named.headers().get("x-request-id").unwrap(), "abc");

            let unnamed = live.get("/nowhere").send().await?;
            assert_eq!(unnamed.status(), 404);
            assert!(unnamed.headers().contains_key("x-request-id"));
            Ok(())
        }
    }
}
