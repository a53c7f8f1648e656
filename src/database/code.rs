//! Runs the code of a schema on a thread of its own.
//!
//! A migration tool may block, and its futures need not be `Send`; the test that waits for it, and the runtime of that
//! test, shall not care.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::thread;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::lane;
use super::prepare::settle;
use super::server::Server;
use super::session::Session;
use crate::error::{Error, Result};
use crate::panics;
use crate::schema::{Code, Work};

/// Runs the code in the database of `config`.
pub(super) async fn run(
    server: &Server,
    config: &tokio_postgres::Config,
    code: &Code,
) -> Result<()> {
    let not_run =
        |error| Error::new("the thread of the schema's code did not start").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(not_run)?;
    let (end, ended) = oneshot::channel();
    let (server, config, code) = (server.clone(), config.clone(), code.clone());
    let thread = thread::Builder::new()
        .name("shareddb schema".to_owned())
        .spawn(move || {
            let outcome = runtime.block_on(on_thread(&server, &config, &code));
            // Nobody is there to take it when the test has been given up.
            let _ = end.send(outcome);
        })
        .map_err(not_run)?;
    let outcome = ended.await;
    // It has nothing left to do but to end.
    match (thread.join(), outcome) {
        (Ok(()), Ok(outcome)) => outcome,
        _ => Err(Error::new("the thread of the schema's code panicked")),
    }
}

async fn on_thread(server: &Server, config: &tokio_postgres::Config, code: &Code) -> Result<()> {
    match &code.work {
        Work::With(code) => {
            let mut session = Session::open(server, config).await?;
            outcome(code.run(&mut session.client)).await?;
            settle(&session.client, "the schema's code").await?;
            session.close().await;
            Ok(())
        }
        Work::At(code) => outcome(code.run(&lane::url(config))).await,
    }
}

/// What a panic leaves behind is a draft, which is dropped.
async fn outcome(code: impl Future<Output = Result<()>>) -> Result<()> {
    match AssertUnwindSafe(code).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::new("the schema's code failed").because(error)),
        Err(payload) => {
            let words = panics::words(payload.as_ref()).to_owned();
            Err(Error::new("the schema's code panicked").because(words))
        }
    }
}
