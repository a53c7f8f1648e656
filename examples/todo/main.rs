//! A small todo list with users, points and transfers: an ordinary actix-web application on `deadpool_postgres`.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/todo cargo run --example todo -- --migrate
//! curl -H 'Content-Type: application/json' -d '{"name": "alice"}' http://127.0.0.1:8080/users
//! ```
//!
//! `PORT` changes the port. Nothing in here knows that it is tested: `live.rs` calls `app::run`, as `main` does.

mod app;
mod errors;
mod handlers;
#[cfg(test)]
mod live;
mod migrations;
mod request_id;

use std::env::{self, VarError};
use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool, Runtime};
use tokio_postgres::NoTls;

const USAGE: &str =
    "usage: DATABASE_URL=postgres://user@host/database [PORT=8080] todo [--migrate]";

#[actix_web::main]
async fn main() -> ExitCode {
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), Box<dyn Error>> {
    let migrate = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--migrate" => true,
        other => return Err(format!("unknown arguments: {}\n{USAGE}", other.join(" ")).into()),
    };
    let pool = pool(
        &variable("DATABASE_URL")?.ok_or_else(|| format!("DATABASE_URL is not set\n{USAGE}"))?,
    )?;
    let port = match variable("PORT")? {
        Some(port) => port
            .parse()
            .map_err(|_| format!("PORT is no port number: '{port}'"))?,
        None => 8080,
    };

    if migrate {
        migrations::apply(&pool).await?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("port {port}: {error}"))?;
    announce(&listener)?;
    app::run(listener, pool)?.await?;
    Ok(())
}

/// An environment variable; unset and empty are the same.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not valid UTF-8")),
    }
}

fn pool(url: &str) -> Result<Pool, Box<dyn Error>> {
    let config = url
        .parse()
        .map_err(|error| format!("DATABASE_URL can't be read: {error}"))?;
    // A client that waits longer than this is better served by an error that it can retry.
    let patience = Some(Duration::from_secs(5));
    Ok(Pool::builder(Manager::new(config, NoTls))
        .runtime(Runtime::Tokio1)
        .wait_timeout(patience)
        .create_timeout(patience)
        .build()?)
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that whoever started the program waits for"
)]
fn announce(listener: &TcpListener) -> std::io::Result<()> {
    println!("listening on http://{}", listener.local_addr()?);
    Ok(())
}

/// Prints the error and everything that caused it: "db error" alone would help nobody.
#[expect(clippy::print_stderr, reason = "a program's place for its errors")]
fn report(error: &dyn Error) {
    eprintln!("todo: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  caused by: {cause}");
        source = cause.source();
    }
}
