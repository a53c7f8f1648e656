//! What the small examples have in common: what they start from, and how they fail.

use std::env;
use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};

use actix_web::ResponseError;
use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;

/// The database that `DATABASE_URL` names.
pub(crate) fn database_url() -> Result<String, String> {
    env::var("DATABASE_URL").map_err(|error| format!("DATABASE_URL: {error}"))
}

pub(crate) fn pool(url: &str) -> Result<Pool, Box<dyn Error>> {
    Ok(Pool::builder(Manager::new(url.parse()?, NoTls)).build()?)
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that whoever started the program waits for"
)]
pub(crate) fn listener() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080))?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// 500: our fault, of which the client is told nothing.
#[derive(Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("internal error")
    }
}

impl ResponseError for Failed {}

/// Any error of the database or its pool, so that `?` takes them; the operator is told.
impl<E: Error> From<E> for Failed {
    #[expect(clippy::print_stderr, reason = "a program's place for its errors")]
    fn from(error: E) -> Self {
        eprintln!("{error:?}");
        Self
    }
}
