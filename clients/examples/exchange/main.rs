//! A shop that sells in any currency and keeps its books in euros, at the rate that another service tells.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/exchange/schema.sql
//! RATES_URL=https://rates.example.com cargo run --example exchange
//! ```

#[cfg(test)]
mod live;
#[path = "../../../examples/parts/mod.rs"]
mod parts;

use std::env;
use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::ErrorBadGateway;
use actix_web::{App, HttpResponse, HttpServer, web};
use deadpool_postgres::Pool;
use parts::Failed;
use serde::{Deserialize, Serialize};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = parts::pool(&parts::database_url()?)?;
    run(parts::listener()?, pool, &env::var("RATES_URL")?)?.await?;
    Ok(())
}

fn run(listener: TcpListener, pool: Pool, rates_url: &str) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let rates_url = rates_url.to_owned();
    let server = HttpServer::new(move || {
        // A client belongs to the thread of its worker.
        let client = awc::Client::builder()
            .timeout(Duration::from_secs(5))
            .finish();
        let rates = Rates {
            client,
            url: rates_url.clone(),
        };
        App::new()
            .app_data(pool.clone())
            .app_data(web::Data::new(rates))
            .route("/orders", web::post().to(order))
    });
    Ok(server.listen(listener)?.run())
}

#[derive(Deserialize)]
struct NewOrder {
    item: String,
    cents: i64,
    currency: String,
}

#[derive(Serialize)]
struct Order {
    id: i32,
    euro_cents: i64,
}

/// Asks for the rate first: a transaction that waits for somebody else's server holds up everybody.
async fn order(
    pool: web::Data<Pool>,
    rates: web::Data<Rates>,
    new: web::Json<NewOrder>,
) -> actix_web::Result<HttpResponse> {
    let per_euro = rates.per_euro(&new.currency).await?;
    let euro_cents = (new.cents as f64 / per_euro).round() as i64;
    let id = store(&pool, &new.item, euro_cents).await?;
    Ok(HttpResponse::Created().json(Order { id, euro_cents }))
}

async fn store(pool: &Pool, item: &str, cents: i64) -> Result<i32, Failed> {
    let client = pool.get().await?;
    let insert = "INSERT INTO orders (item, cents) VALUES ($1, $2) RETURNING id";
    let row = client.query_one(insert, &[&item, &cents]).await?;
    Ok(row.get("id"))
}

/// The service that knows the rates.
struct Rates {
    client: awc::Client,
    url: String,
}

#[derive(Deserialize)]
struct Rate {
    per_euro: f64,
}

impl Rates {
    async fn per_euro(&self, currency: &str) -> actix_web::Result<f64> {
        let unknown = || ErrorBadGateway("the rate could not be had, try again");
        let url = format!("{}/rates/{currency}", self.url);
        let mut response = self.client.get(url).send().await.map_err(|_| unknown())?;
        if !response.status().is_success() {
            return Err(unknown());
        }
        let rate: Rate = response.json().await.map_err(|_| unknown())?;
        Ok(rate.per_euro)
    }
}
