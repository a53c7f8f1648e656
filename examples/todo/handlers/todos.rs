//! Todos: each has an owner, a title, and is done or not.

use actix_web::{HttpResponse, web};
use deadpool_postgres::Pool;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::text;
use crate::errors::{ApiError, constraint};

#[derive(Serialize)]
struct Todo {
    id: i32,
    owner: i32,
    title: String,
    done: bool,
}

#[derive(Deserialize)]
pub(crate) struct Filter {
    owner: Option<i32>,
}

#[derive(Deserialize)]
pub(crate) struct NewTodo {
    owner: i32,
    title: String,
}

/// What is absent stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    title: Option<String>,
    done: Option<bool>,
}

pub(crate) async fn list(
    pool: web::Data<Pool>,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, ApiError> {
    let client = pool.get().await?;
    let select = client
        .prepare_cached(
            "SELECT id, owner, title, done FROM todos WHERE $1::integer IS NULL OR owner = $1 ORDER BY id LIMIT 100",
        )
        .await?;
    let rows = client.query(&select, &[&filter.owner]).await?;
    let todos: Vec<Todo> = rows.into_iter().map(Todo::from).collect();
    Ok(HttpResponse::Ok().json(todos))
}

pub(crate) async fn create(
    pool: web::Data<Pool>,
    new: web::Json<NewTodo>,
) -> Result<HttpResponse, ApiError> {
    let title = text("title", &new.title, 200)?;
    let client = pool.get().await?;
    let insert = client
        .prepare_cached(
            "INSERT INTO todos (owner, title) VALUES ($1, $2) RETURNING id, owner, title, done",
        )
        .await?;
    let row = client
        .query_one(&insert, &[&new.owner, &title])
        .await
        .map_err(|error| match constraint(&error) {
            Some("todos_owner_exists") => ApiError::Invalid {
                field: "owner",
                problem: "is no user",
            },
            _ => error.into(),
        })?;
    let todo = Todo::from(row);
    Ok(HttpResponse::Created()
        .insert_header(("location", format!("/todos/{}", todo.id)))
        .json(todo))
}

pub(crate) async fn read(
    pool: web::Data<Pool>,
    id: web::Path<i32>,
) -> Result<HttpResponse, ApiError> {
    let client = pool.get().await?;
    let select = client
        .prepare_cached("SELECT id, owner, title, done FROM todos WHERE id = $1")
        .await?;
    let row = client.query_opt(&select, &[&*id]).await?;
    let todo = Todo::from(row.ok_or(ApiError::NotFound("todo"))?);
    Ok(HttpResponse::Ok().json(todo))
}

pub(crate) async fn update(
    pool: web::Data<Pool>,
    id: web::Path<i32>,
    change: web::Json<Change>,
) -> Result<HttpResponse, ApiError> {
    let title = change
        .title
        .as_deref()
        .map(|title| text("title", title, 200))
        .transpose()?;
    let client = pool.get().await?;
    let update = client
        .prepare_cached(
            "UPDATE todos SET title = coalesce($2, title), done = coalesce($3, done) WHERE id = $1 \
             RETURNING id, owner, title, done",
        )
        .await?;
    let row = client
        .query_opt(&update, &[&*id, &title, &change.done])
        .await?;
    let todo = Todo::from(row.ok_or(ApiError::NotFound("todo"))?);
    Ok(HttpResponse::Ok().json(todo))
}

pub(crate) async fn delete(
    pool: web::Data<Pool>,
    id: web::Path<i32>,
) -> Result<HttpResponse, ApiError> {
    let client = pool.get().await?;
    let delete = client
        .prepare_cached("DELETE FROM todos WHERE id = $1")
        .await?;
    match client.execute(&delete, &[&*id]).await? {
        0 => Err(ApiError::NotFound("todo")),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

impl From<Row> for Todo {
    fn from(row: Row) -> Self {
        Self {
            id: row.get("id"),
            owner: row.get("owner"),
            title: row.get("title"),
            done: row.get("done"),
        }
    }
}
