//! Transfers: one user pays points to another, wholly or not at all.

use actix_web::{HttpResponse, web};
use deadpool_postgres::{Client, Pool, Transaction};
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use crate::errors::{ApiError, constraint};

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct NewTransfer {
    from: i32,
    to: i32,
    points: i32,
}

#[derive(Serialize)]
struct Transfer {
    id: i32,
    from: i32,
    to: i32,
    points: i32,
}

pub(crate) async fn create(
    pool: web::Data<Pool>,
    new: web::Json<NewTransfer>,
) -> Result<HttpResponse, ApiError> {
    let NewTransfer { from, to, points } = *new;
    if !(1..=1_000_000).contains(&points) {
        return Err(ApiError::Invalid {
            field: "points",
            problem: "must be between 1 and 1000000",
        });
    }
    if from == to {
        return Err(ApiError::Invalid {
            field: "to",
            problem: "must be somebody else",
        });
    }

    let mut client = pool.get().await?;
    let mut attempts = 1..=ATTEMPTS;
    let id = loop {
        let is_last = attempts.next().is_none_or(|attempt| attempt == ATTEMPTS);
        match transfer(&mut client, *new).await {
            Err(error) if is_transient(&error) && !is_last => {}
            outcome => break outcome.map_err(explain)?,
        }
    };
    Ok(HttpResponse::Created().json(Transfer {
        id,
        from,
        to,
        points,
    }))
}

/// How often a transfer is tried that another one gets in the way of.
const ATTEMPTS: u8 = 3;

/// The transaction was rolled back for no fault of its own, so it may well succeed if it is run again as a whole.
fn is_transient(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
    })
}

fn explain(error: tokio_postgres::Error) -> ApiError {
    match constraint(&error) {
        Some("transfers_sender_exists") => ApiError::Invalid {
            field: "from",
            problem: "is no user",
        },
        Some("transfers_recipient_exists") => ApiError::Invalid {
            field: "to",
            problem: "is no user",
        },
        Some("users_points_are_not_negative") => ApiError::Conflict {
            field: "points",
            problem: "are more than there are",
        },
        _ => error.into(),
    }
}

/// Books a transfer in a transaction of its own; an early return drops it, and with it all that it did.
async fn transfer(client: &mut Client, new: NewTransfer) -> Result<i32, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let id = book(&transaction, new).await?;
    transaction.commit().await?;
    Ok(id)
}

/// Records the transfer, credits the recipient, debits the sender. The last step fails for want of points.
async fn book(
    transaction: &Transaction<'_>,
    new: NewTransfer,
) -> Result<i32, tokio_postgres::Error> {
    let NewTransfer { from, to, points } = new;
    // Always in the same order, or two transfers between the same users in opposite directions would deadlock.
    transaction
        .execute(
            "SELECT FROM users WHERE id IN ($1, $2) ORDER BY id FOR UPDATE",
            &[&from, &to],
        )
        .await?;
    let transfer = transaction
        .query_one(
            "INSERT INTO transfers (sender, recipient, points) VALUES ($1, $2, $3) RETURNING id",
            &[&from, &to, &points],
        )
        .await?;
    let pay = transaction
        .prepare_cached("UPDATE users SET points = points + $2 WHERE id = $1")
        .await?;
    transaction.execute(&pay, &[&to, &points]).await?;
    transaction.execute(&pay, &[&from, &-points]).await?;
    Ok(transfer.get("id"))
}
