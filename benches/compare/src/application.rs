//! The application under test: notes are written by POST and read by GET. It exists with deadpool, with sqlx, and with no
//! database.

use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};

const INSERT: &str = "INSERT INTO t1 (note) VALUES ($1)";
const SELECT: &str = "SELECT note FROM t1 ORDER BY id";

/// What the test writes and expects to read.
pub(crate) const NOTE: &str = "a note";

/// An `HttpServer` with these two handlers, on one worker.
macro_rules! serve {
    ($listener:expr, $data:expr, $write:ident, $read:ident) => {{
        let data = $data;
        HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/notes", web::post().to($write))
                .route("/notes", web::get().to($read))
        })
        .workers(1)
        .disable_signals()
        .listen($listener)
        .unwrap()
        .run()
    }};
}

pub(crate) fn with_deadpool(listener: TcpListener, pool: deadpool_postgres::Pool) -> Server {
    async fn write(pool: web::Data<deadpool_postgres::Pool>, note: String) -> HttpResponse {
        let client = pool.get().await.unwrap();
        let statement = client.prepare_cached(INSERT).await.unwrap();
        client.execute(&statement, &[&note]).await.unwrap();
        HttpResponse::Created().finish()
    }
    async fn read(pool: web::Data<deadpool_postgres::Pool>) -> HttpResponse {
        let client = pool.get().await.unwrap();
        let statement = client.prepare_cached(SELECT).await.unwrap();
        let rows = client.query(&statement, &[]).await.unwrap();
        let notes: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        HttpResponse::Ok().body(notes.join("\n"))
    }
    serve!(listener, web::Data::new(pool), write, read)
}

pub(crate) fn with_sqlx(listener: TcpListener, pool: sqlx::PgPool) -> Server {
    async fn write(pool: web::Data<sqlx::PgPool>, note: String) -> HttpResponse {
        sqlx::query(INSERT)
            .bind(note)
            .execute(pool.get_ref())
            .await
            .unwrap();
        HttpResponse::Created().finish()
    }
    async fn read(pool: web::Data<sqlx::PgPool>) -> HttpResponse {
        let notes: Vec<String> = sqlx::query_scalar(SELECT)
            .fetch_all(pool.get_ref())
            .await
            .unwrap();
        HttpResponse::Ok().body(notes.join("\n"))
    }
    serve!(listener, web::Data::new(pool), write, read)
}

pub(crate) fn with_nothing(listener: TcpListener) -> Server {
    async fn write(_: web::Data<()>, _note: String) -> HttpResponse {
        HttpResponse::Created().finish()
    }
    async fn read(_: web::Data<()>) -> HttpResponse {
        HttpResponse::Ok().body(NOTE)
    }
    serve!(listener, web::Data::new(()), write, read)
}
