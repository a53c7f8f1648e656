//! The application of the guide's page on `init_service`.

use std::net::TcpListener;

use actix_shareddb::{Config, Pool, Schema, SharedTransaction};
use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

pub fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || App::new().app_data(pool.clone()).configure(routes));
    Ok(server.listen(listener)?.run())
}

pub fn routes(config: &mut web::ServiceConfig) {
    let todos = web::resource("/todos");
    config.service(
        todos
            .route(web::post().to(create))
            .route(web::get().to(list)),
    );
}

async fn create(pool: web::Data<Pool>, todo: web::Json<Value>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let insert = "INSERT INTO todos (title) VALUES ($1)";
    client
        .execute(insert, &[&todo["title"].as_str()])
        .await
        .unwrap();
    HttpResponse::Created().finish()
}

async fn list(pool: web::Data<Pool>) -> web::Json<Vec<Value>> {
    let client = pool.get().await.unwrap();
    let rows = client.query("SELECT title FROM todos", &[]).await.unwrap();
    let titles = rows.iter().map(|row| row.get::<_, &str>("title"));
    web::Json(titles.map(|title| json!({ "title": title })).collect())
}

pub fn schema() -> Schema {
    Schema::sql("CREATE TABLE todos (title text NOT NULL)")
}

/// Of a database in which somebody has left something. It stays open as long as the process.
pub async fn pool() -> Pool {
    let transaction = SharedTransaction::open(&schema(), &Config::new())
        .await
        .unwrap();
    let pool = transaction.pool().unwrap();
    let left = "INSERT INTO todos VALUES ('left by another test')";
    pool.get().await.unwrap().execute(left, &[]).await.unwrap();
    std::mem::forget(transaction);
    pool
}
