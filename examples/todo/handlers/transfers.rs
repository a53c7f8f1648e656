//! Transfers: one user pays points to another, wholly or not at all.

use actix_web::{HttpResponse, web};
use deadpool_postgres::{Pool, Transaction};
use serde::{Deserialize, Serialize};

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
    let transaction = client.transaction().await?;
    // Every early return from here on drops the transaction, and with it all that it did.
    let id = book(&transaction, *new)
        .await
        .map_err(|error| match constraint(&error) {
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
        })?;
    transaction.commit().await?;
    Ok(HttpResponse::Created().json(Transfer {
        id,
        from,
        to,
        points,
    }))
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
