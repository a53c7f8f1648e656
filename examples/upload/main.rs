//! Files of measurements, uploaded and downloaded by COPY: they stream through, and are never in memory as a whole.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/upload/schema.sql
//! cargo run --example upload
//! curl -T readings.csv http://127.0.0.1:8080/readings
//! ```
//!
//! A file starts with the line `sensor,taken_at,celsius`.

#[cfg(test)]
mod live;
#[path = "../parts/mod.rs"]
mod parts;

use std::error::Error;
use std::fmt;
use std::net::TcpListener;
use std::pin::pin;

use actix_web::dev::Server;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, ResponseError, web};
use bytes::Bytes;
use deadpool_postgres::{Pool, Transaction};
use futures_util::{SinkExt as _, StreamExt as _};
use parts::Failed;
use serde::Serialize;
use tokio_postgres::error::DbError;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = parts::pool(&parts::database_url()?)?;
    run(parts::listener()?, pool)?.await?;
    Ok(())
}

fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new().app_data(pool.clone()).service(
            web::resource("/readings")
                .route(web::put().to(upload))
                .route(web::get().to(download)),
        )
    });
    Ok(server.listen(listener)?.run())
}

#[derive(Serialize)]
struct Uploaded {
    read: u64,
    /// Those that were not known before, or were known otherwise.
    stored: u64,
}

/// Takes a file, wholly or not at all: every early return drops the transaction, and with it all that was read.
async fn upload(
    pool: web::Data<Pool>,
    body: web::Payload,
) -> Result<web::Json<Uploaded>, UploadError> {
    let mut client = pool.get().await.map_err(Failed::from)?;
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("CREATE TEMP TABLE incoming (LIKE readings INCLUDING ALL) ON COMMIT DROP")
        .await?;
    let read = copy(&transaction, body).await?;
    let stored = transaction
        .execute(
            "INSERT INTO readings SELECT * FROM incoming \
             ON CONFLICT (sensor, taken_at) DO UPDATE SET celsius = excluded.celsius \
             WHERE readings.celsius <> excluded.celsius",
            &[],
        )
        .await?;
    transaction.commit().await?;
    Ok(web::Json(Uploaded { read, stored }))
}

/// Passes the file on as it comes in. A sink that is dropped unfinished makes the COPY fail.
async fn copy(transaction: &Transaction<'_>, mut body: web::Payload) -> Result<u64, UploadError> {
    let copy = "COPY incoming FROM STDIN (FORMAT csv, HEADER)";
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(copy).await?);
    while let Some(chunk) = body.next().await {
        sink.send(chunk?).await?;
    }
    Ok(sink.finish().await?)
}

/// Gives all readings, as a file that can be uploaded again.
async fn download(pool: web::Data<Pool>) -> Result<HttpResponse, Failed> {
    let client = pool.get().await?;
    let copy =
        "COPY (SELECT * FROM readings ORDER BY taken_at, sensor) TO STDOUT (FORMAT csv, HEADER)";
    let rows = client.copy_out(copy).await?;
    // The client goes back to the pool when the last row has been sent.
    let rows = rows.map(move |row| {
        let _ = &client;
        row
    });
    Ok(HttpResponse::Ok().content_type("text/csv").streaming(rows))
}

/// Why a file was not taken.
#[derive(Debug)]
enum UploadError {
    /// 422: PostgreSQL can't make sense of it, and says where.
    Bad(Box<DbError>),
    /// 400: it broke off.
    BrokenOff(PayloadError),
    /// 500.
    Failed(Failed),
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(error) => {
                let place = error.where_().unwrap_or_default();
                write!(f, "{} ({place})", error.message())
            }
            Self::BrokenOff(error) => write!(f, "the file broke off: {error}"),
            Self::Failed(failed) => failed.fmt(f),
        }
    }
}

impl ResponseError for UploadError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BrokenOff(_) => StatusCode::BAD_REQUEST,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<tokio_postgres::Error> for UploadError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // The classes "data exception" and "integrity constraint violation".
            Some(cause) if ["22", "23"].contains(&&cause.code().code()[..2]) => {
                Self::Bad(Box::new(cause.clone()))
            }
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<PayloadError> for UploadError {
    fn from(error: PayloadError) -> Self {
        Self::BrokenOff(error)
    }
}

impl From<Failed> for UploadError {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}
