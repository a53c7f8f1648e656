//! Users, their unique names and their points.

use actix_web::{HttpResponse, web};
use deadpool_postgres::Pool;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::text;
use crate::errors::ApiError;

#[derive(Serialize)]
struct User {
    id: i32,
    name: String,
    points: i32,
}

#[derive(Deserialize)]
pub(crate) struct NewUser {
    name: String,
}

pub(crate) async fn create(
    pool: web::Data<Pool>,
    new: web::Json<NewUser>,
) -> Result<HttpResponse, ApiError> {
    let name = text("name", &new.name, 40)?;
    let client = pool.get().await?;
    let insert = client
        .prepare_cached("INSERT INTO users (name) VALUES ($1) RETURNING id, name, points")
        .await?;
    // Asking first whether the name is free would race with whoever asks at the same time; the constraint doesn't.
    let row = client
        .query_one(&insert, &[&name])
        .await
        .map_err(|error| match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => ApiError::Conflict {
                field: "name",
                problem: "is taken",
            },
            _ => error.into(),
        })?;
    let user = User::from(row);
    Ok(HttpResponse::Created()
        .insert_header(("location", format!("/users/{}", user.id)))
        .json(user))
}

pub(crate) async fn read(
    pool: web::Data<Pool>,
    id: web::Path<i32>,
) -> Result<HttpResponse, ApiError> {
    let client = pool.get().await?;
    let select = client
        .prepare_cached("SELECT id, name, points FROM users WHERE id = $1")
        .await?;
    let row = client.query_opt(&select, &[&*id]).await?;
    let user = User::from(row.ok_or(ApiError::NotFound("user"))?);
    Ok(HttpResponse::Ok().json(user))
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: row.get("id"),
            name: row.get("name"),
            points: row.get("points"),
        }
    }
}
