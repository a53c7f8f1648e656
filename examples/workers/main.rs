//! A queue of jobs in the database, and workers in the background that hold clients of their own for as long as they live.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/workers/schema.sql
//! cargo run --example workers
//! curl -d 'so many words' http://127.0.0.1:8080/jobs
//! curl http://127.0.0.1:8080/jobs/1
//! ```

#[cfg(test)]
mod live;
#[path = "../parts/mod.rs"]
mod parts;

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::ErrorNotFound;
use actix_web::rt::time::{sleep, timeout};
use actix_web::{App, HttpResponse, HttpServer, web};
use deadpool_postgres::{Client, Pool};
use parts::Failed;
use serde::Serialize;
use tokio::sync::watch;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = parts::pool(&parts::database_url()?)?;
    run(parts::listener()?, pool)?.await?;
    Ok(())
}

fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let bell = web::Data::new(watch::Sender::new(()));
    for _ in 0..WORKERS {
        actix_web::rt::spawn(work(pool.clone(), bell.clone()));
    }
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .app_data(bell.clone())
            .route("/jobs", web::post().to(add))
            .route("/jobs/{id}", web::get().to(look))
    });
    Ok(server.listen(listener)?.run())
}

/// Rings whenever a job has come or gone.
type Bell = web::Data<watch::Sender<()>>;

async fn add(pool: web::Data<Pool>, bell: Bell, text: String) -> Result<HttpResponse, Failed> {
    let client = pool.get().await?;
    let insert = "INSERT INTO jobs (text) VALUES ($1) RETURNING id";
    let id: i32 = client.query_one(insert, &[&text]).await?.get("id");
    bell.send_replace(());
    Ok(HttpResponse::Accepted()
        .insert_header(("location", format!("/jobs/{id}")))
        .finish())
}

#[derive(Serialize)]
struct Job {
    state: String,
    attempts: i32,
    outcome: Option<String>,
}

/// Answers when the job has come to its end, or tells after a while how far it is.
async fn look(
    pool: web::Data<Pool>,
    bell: Bell,
    id: web::Path<i32>,
) -> actix_web::Result<web::Json<Job>> {
    let mut rings = bell.subscribe();
    let ended = async {
        loop {
            // Seen before the job is read, so that no ring in between is missed.
            rings.mark_unchanged();
            let job = read(&pool, *id).await?;
            match &job {
                Some(job) if job.state == "waiting" || job.state == "running" => {}
                _ => return Ok::<_, Failed>(job),
            }
            rings.changed().await?;
        }
    };
    let job = match timeout(Duration::from_secs(20), ended).await {
        Ok(job) => job?,
        Err(_) => read(&pool, *id).await?,
    };
    Ok(web::Json(job.ok_or_else(|| ErrorNotFound("no such job"))?))
}

async fn read(pool: &Pool, id: i32) -> Result<Option<Job>, Failed> {
    let client = pool.get().await?;
    let select = "SELECT state, attempts, outcome FROM jobs WHERE id = $1";
    let row = client.query_opt(select, &[&id]).await?;
    Ok(row.map(|row| Job {
        state: row.get("state"),
        attempts: row.get("attempts"),
        outcome: row.get("outcome"),
    }))
}

/// Works for as long as the server lives, with one client; with the next one, when that is lost.
async fn work(pool: Pool, bell: Bell) {
    loop {
        let lost: Result<(), Failed> = async {
            let client = pool.get().await?;
            let mut rings = bell.subscribe();
            loop {
                while work_off_one(&client).await? {
                    bell.send_replace(());
                }
                // Other instances of the program don't ring here.
                let _ = timeout(Duration::from_secs(5), rings.changed()).await;
            }
        }
        .await;
        if lost.is_err() {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Takes a job, if there is one, does it, and writes down what came of it. Meanwhile no transaction is open.
///
/// What a server that died was at stays `running`: it may be half done, so a person has to decide.
async fn work_off_one(client: &Client) -> Result<bool, Failed> {
    let take = client
        .prepare_cached(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE id = \
             (SELECT id FROM jobs WHERE state = 'waiting' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) \
             RETURNING id, text, attempts",
        )
        .await?;
    let Some(row) = client.query_opt(&take, &[]).await? else {
        return Ok(false);
    };
    let id: i32 = row.get("id");
    let (state, outcome) = match count_words(row.get("text")) {
        Ok(words) => ("done", words.to_string()),
        Err(problem) if row.get::<_, i32>("attempts") < ATTEMPTS => ("waiting", problem),
        Err(problem) => ("failed", problem),
    };
    let update = "UPDATE jobs SET state = $2, outcome = $3 WHERE id = $1";
    client.execute(update, &[&id, &state, &outcome]).await?;
    Ok(true)
}

/// The work itself.
fn count_words(text: &str) -> Result<usize, String> {
    match text.split_whitespace().count() {
        0 => Err("there are no words".to_owned()),
        words => Ok(words),
    }
}

const WORKERS: usize = 2;

/// How often a job that fails is tried.
const ATTEMPTS: i32 = 3;
