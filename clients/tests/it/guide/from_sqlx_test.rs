//! A repository layer on sqlx, tested without a server.

use std::path::Path;

use actix_shareddb::{Config, Error, Result, Schema, SharedTransaction};
use sqlx::{Connection as _, PgConnection};
use sqlx_core::migrate::Migrator;

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

/// The same by sqlx's own migrator.
fn migrated() -> Schema {
    let migrations = Schema::run_at("sqlx", async |url| {
        let mut connection = PgConnection::connect(url).await.map_err(Error::other)?;
        let migrator = Migrator::new(Path::new("migrations")).await;
        let migrator = migrator.map_err(Error::other)?;
        migrator.run(&mut connection).await.map_err(Error::other)
    });
    migrations.depends_on("migrations")
}

#[tokio::test]
async fn sqlx_migrates_by_itself() -> Result<()> {
    let transaction = SharedTransaction::open(&migrated(), &Config::new()).await?;
    let client = transaction.pool()?.get().await?;
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    assert_eq!(client.query_one(applied, &[]).await?.get::<_, i64>(0), 2);
    client
        .execute("INSERT INTO users (name) VALUES ('alice')", &[])
        .await?;
    drop(client);
    transaction.rollback().await
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
