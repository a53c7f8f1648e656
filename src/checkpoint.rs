//! Checkpoints, as a test sets them and goes back to them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::insider::Insider;
use crate::mux::checkpoint::Order;
use crate::{LiveServer, SharedTransaction};

/// A state of the database that a test can go back to: what [`LiveServer::checkpoint`] returns.
///
/// ```no_run
/// # use actix_shareddb::{LiveServer, Result};
/// # async fn example(live: &LiveServer) -> Result<()> {
/// let empty = live.checkpoint().await?;
/// for title in ["milk", "", "a title that is rather long"] {
///     live.post("/todos").send_body(title).await?;
///     live.restore(&empty).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a checkpoint is of no use to a test that doesn't go back to it"]
pub struct Checkpoint {
    number: u64,
    /// What sets each sequence so that its next value is the one that would have been next then.
    sequences: Vec<String>,
}

impl Checkpoint {
    async fn set(insider: &Insider) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let client = insider.client().await?;
        client
            .simple_query(&Order::Set(number).text())
            .await
            .map_err(|error| refused("no checkpoint could be set", &error))?;
        let sequences = sequences(&client).await?;
        Ok(Self { number, sequences })
    }

    async fn restore(&self, insider: &Insider, with_sequences: bool) -> Result<()> {
        let client = insider.client().await?;
        client
            .simple_query(&Order::Restore(self.number).text())
            .await
            .map_err(|error| refused("the checkpoint could not be restored", &error))?;
        if with_sequences {
            let mut moved = self.sequences.clone();
            let unmoved = sequences(&client).await?;
            moved.retain(|sequence| !unmoved.contains(sequence));
            client.batch_execute(&moved.join("; ")).await?;
        }
        Ok(())
    }
}

/// In the words of the session that asked, which name who is in the way.
fn refused(event: &str, error: &tokio_postgres::Error) -> Error {
    let Some(error) = error.as_db_error() else {
        return Error::new(event).because(error.to_string());
    };
    let is_waiting = error.detail().is_some_and(|detail| !detail.is_empty());
    let (cause, help) = match error.detail().filter(|_| is_waiting) {
        // The first line is about the order itself.
        Some(detail) => (
            format!(
                "a transaction block is open: {}",
                detail.lines().nth(1).unwrap_or(detail)
            ),
            Some("commit it or roll it back first; its rows are neither there nor gone"),
        ),
        None => (error.message().to_owned(), error.hint()),
    };
    let refused = Error::new(event).because(cause);
    match help {
        Some(help) => refused.help(help),
        None => refused,
    }
}

/// The sequences that may be altered, each as the statement that makes it go on as it would now. Other than `setval` that is
/// rolled back with the test.
async fn sequences(client: &Client) -> Result<Vec<String>> {
    let rows = client.query(SEQUENCES, &[]).await?;
    let queries: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(&queries.join(" UNION ALL "), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What is asked about each sequence. One that is at its end would go on nowhere.
const SEQUENCES: &str = "SELECT format($$SELECT %L || next FROM (SELECT CASE WHEN is_called \
     THEN last_value::numeric + %s ELSE last_value END AS next FROM %I.%I) s WHERE next BETWEEN %s AND %s$$, \
     format('ALTER SEQUENCE %I.%I RESTART WITH ', schemaname, sequencename), increment_by, schemaname, sequencename, \
     min_value, max_value) FROM pg_catalog.pg_sequences WHERE pg_catalog.pg_has_role(sequenceowner, 'USAGE')";

impl LiveServer {
    /// Remembers the rows of the database as they are now, for [`restore`](Self::restore). So what many cases start from is
    /// prepared once, as for a table of inputs or for `proptest`.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// live.post("/users").send_body("alice").await?;
    /// let fixtures = live.checkpoint().await?;
    /// for (name, status) in [("bob", 201), ("alice", 409), ("", 422)] {
    ///     live.restore(&fixtures).await?;
    ///     assert_eq!(live.post("/users").send_body(name).await?.status(), status, "{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It is a savepoint between the outer transaction and those of the application, so it is there for as long as the test.
    /// Going back to one ends those that were set after it. It is one of the case's own database: what the application does
    /// in [others](crate::Databases) stays.
    ///
    /// # Errors
    ///
    /// If a transaction block is open, and stays so for the
    /// [`idle_in_transaction_timeout`](crate::Config::idle_in_transaction_timeout), with the statements of whoever holds it.
    /// What runs is waited for. Also if the test has a database of its own
    /// ([`Isolation::Database`](crate::Isolation::Database)).
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::set(self.insider()?).await
    }

    /// Goes back to a checkpoint, to which can be gone back again.
    ///
    /// All rows are as they were, and so are tables, roles, and settings of the clients, whoever changed them. Prepared
    /// statements stay, sequences go on, and what the application keeps in memory isn't known here.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let before = live.checkpoint().await?;
    /// live.delete("/todos/7").send().await?;
    /// live.restore(&before).await?;
    /// assert_eq!(live.get("/todos/7").send().await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint); also if an earlier checkpoint was gone back to since this one was set, and if
    /// it is one of another transaction.
    pub async fn restore(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.restore(self.insider()?, false).await
    }

    /// The same with all sequences, so that the same ids are given again.
    ///
    /// That locks those that have moved, up to the end of the test: others that run at the same time in the same database
    /// wait for it if they take an id from one. A sequence that the user may not alter goes on.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let empty = live.checkpoint().await?;
    /// for _ in 0..2 {
    ///     live.restore_with_sequences(&empty).await?;
    ///     assert_eq!(live.post("/users").send_body("alice").await?.body().await?, "1");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`restore`](Self::restore); also if a sequence is locked by another test.
    pub async fn restore_with_sequences(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.restore(self.insider()?, true).await
    }
}

impl SharedTransaction {
    /// Remembers the rows of the database as they are now. See [`LiveServer::checkpoint`].
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # async fn example(transaction: &SharedTransaction) -> Result<()> {
    /// let client = transaction.pool()?.get().await?;
    /// let full = transaction.checkpoint().await?;
    /// client.batch_execute("DELETE FROM todos").await?;
    /// transaction.restore(&full).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a transaction block is open and stays so.
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::set(&self.insider()).await
    }

    /// Goes back to a checkpoint. See [`LiveServer::restore`].
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # async fn example(transaction: &SharedTransaction) -> Result<()> {
    /// let before = transaction.checkpoint().await?;
    /// transaction.restore(&before).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a transaction block is open and stays so, and if the checkpoint is gone.
    pub async fn restore(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.restore(&self.insider(), false).await
    }

    /// The same with all sequences. See [`LiveServer::restore_with_sequences`].
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # async fn example(transaction: &SharedTransaction) -> Result<()> {
    /// let before = transaction.checkpoint().await?;
    /// transaction.restore_with_sequences(&before).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`restore`](Self::restore); also if a sequence is locked by another test.
    pub async fn restore_with_sequences(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.restore(&self.insider(), true).await
    }
}
