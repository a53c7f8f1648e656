//! Live tests: the other service is a mock, which runs before the application does.

use std::net::TcpListener;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::dev::Server;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

#[derive(Default)]
struct Exchange {
    rates: Option<MockServer>,
}

impl LiveServerTestCase for Exchange {
    fn schema() -> Schema {
        Schema::dir("examples/exchange")
    }

    /// The address of the mock is what the application starts with.
    async fn prepare(&mut self, _: &Pool) -> Result<()> {
        self.rates = Some(MockServer::start().await);
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(super::run(listener, pool, &self.rates().uri())?)
    }
}

impl Exchange {
    fn rates(&self) -> &MockServer {
        self.rates.as_ref().expect("`prepare` has started it")
    }

    /// Lets the service answer so, and expects that it is asked once.
    async fn answer(&self, answer: ResponseTemplate) {
        Mock::given(method("GET"))
            .and(path("/rates/USD"))
            .respond_with(answer)
            .expect(1)
            .mount(self.rates())
            .await;
    }
}

/// What stands in the books.
async fn orders(live: &LiveServer) -> Result<Vec<(String, i64)>> {
    let client = live.pool().get().await?;
    let rows = client
        .query("SELECT item, cents FROM orders ORDER BY id", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get("item"), row.get("cents")))
        .collect())
}

live_server! {
    impl Exchange {
        async fn an_order_is_stored_in_euros(&mut self, live: &LiveServer) -> Result<()> {
            self.answer(ResponseTemplate::new(200).set_body_json(json!({ "per_euro": 1.25 }))).await;
            let order = json!({ "item": "book", "cents": 1000, "currency": "USD" });
            let mut created = live.post("/orders").send_json(&order).await?;
            assert_eq!(created.status(), 201);
            assert_eq!(created.json::<Value>().await?["euro_cents"], 800);
            assert_eq!(orders(live).await?, [("book".to_owned(), 800)]);
            Ok(())
        }

        async fn without_a_rate_nothing_is_stored(&mut self, live: &LiveServer) -> Result<()> {
            for answer in [
                ResponseTemplate::new(500),
                ResponseTemplate::new(200).set_body_string("to be announced"),
            ] {
                self.rates().reset().await;
                self.answer(answer).await;
                let order = json!({ "item": "book", "cents": 1000, "currency": "USD" });
                assert_eq!(live.post("/orders").send_json(&order).await?.status(), 502);
                self.rates().verify().await;
            }
            assert!(orders(live).await?.is_empty());
            Ok(())
        }
    }
}
