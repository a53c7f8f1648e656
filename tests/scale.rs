//! A thousand live tests, which `scripts/shards` runs in several shards at once against one server. Not run with the
//! others: `test = false`.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

use std::io::Write;
use std::net::TcpListener;

use actix_shareddb::{__private, Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, Responder, web};

fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .route("/visits", web::post().to(visit))
            .route("/visits", web::get().to(visits))
    });
    Ok(server.workers(1).listen(listener)?.run())
}

async fn visit(pool: web::Data<Pool>) -> impl Responder {
    let client = pool.get().await.unwrap();
    client
        .execute("INSERT INTO visits DEFAULT VALUES", &[])
        .await
        .unwrap();
    HttpResponse::Created()
}

async fn visits(pool: web::Data<Pool>) -> impl Responder {
    let client = pool.get().await.unwrap();
    let count = "SELECT count(*)::text FROM visits";
    client
        .query_one(count, &[])
        .await
        .unwrap()
        .get::<_, String>(0)
}

/// What one test posts it sees, and nothing of the nine hundred and ninety-nine others.
async fn sees_its_own_visits_only(live: &LiveServer) {
    for expected in ["1", "2"] {
        assert_eq!(live.post("/visits").send().await.unwrap().status(), 201);
        let mut seen = live.get("/visits").send().await.unwrap();
        assert_eq!(seen.body().await.unwrap(), expected);
    }
}

#[derive(Default)]
struct Visits;

impl LiveServerTestCase for Visits {
    fn schema() -> Schema {
        Schema::sql("CREATE TABLE visits (id serial PRIMARY KEY)")
    }

    fn config() -> Config {
        Config::new().pool_max_size(2)
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(run(listener, pool)?)
    }
}

/// What nextest asks of a test program. All tests are the same, so that one is compiled.
fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if !has("--list") {
        let name = arguments.iter().find(|argument| !argument.starts_with('-'));
        let name = name.expect("the name of a test");
        __private::run(name, async |_: &mut Visits, live: &LiveServer| {
            sees_its_own_visits_only(live).await;
        });
    } else if !has("--ignored") {
        let names: String = (0..1000)
            .map(|nth| format!("visits_{nth:03}: test\n"))
            .collect();
        std::io::stdout().write_all(names.as_bytes()).unwrap();
    }
}
