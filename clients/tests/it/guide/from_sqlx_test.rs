//! A repository layer on sqlx, tested without a server.

use actix_shareddb::{Config, Error, Result, Schema, SharedTransaction};

struct Users(sqlx::PgPool);

enum AddError {
    Taken,
}

impl Users {
    fn new(pool: sqlx::PgPool) -> Self {
        Self(pool)
    }

    async fn add(&self, name: &str) -> Result<(), AddError> {
        let insert = sqlx::query("INSERT INTO users (name) VALUES ($1)").bind(name);
        match insert.execute(&self.0).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(AddError::Taken)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What all tests start from: applied once, and kept.
fn schema() -> Schema {
    Schema::dir("migrations").then(Schema::sql(include_str!("fixtures/users.sql")))
}

#[tokio::test]
async fn a_name_is_taken_once() -> Result<()> {
    let transaction = SharedTransaction::open(&schema(), &Config::new()).await?;
    let url = transaction.database_url()?;
    let pool = sqlx::PgPool::connect(&url).await.map_err(Error::other)?;

    let again = Users::new(pool.clone()).add("alice").await;
    assert!(matches!(again, Err(AddError::Taken)));

    pool.close().await;
    transaction.rollback().await
}
