//! The schema, in steps that each database takes once.

use std::error::Error;

use deadpool_postgres::Pool;

/// In the order of their names; a step that has been released is never edited.
const MIGRATIONS: [(&str, &str); 2] = [
    (
        "0001_users_and_todos",
        include_str!("migrations/0001_users_and_todos.sql"),
    ),
    ("0002_points", include_str!("migrations/0002_points.sql")),
];

/// Applies what the database has not seen yet: all of it or, if one step fails, nothing.
pub(crate) async fn apply(pool: &Pool) -> Result<(), Box<dyn Error>> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY)")
        .await?;
    // Two instances that start at once take turns.
    transaction
        .batch_execute("LOCK TABLE migrations IN EXCLUSIVE MODE")
        .await?;
    for (name, sql) in MIGRATIONS {
        let inserted = transaction
            .execute(
                "INSERT INTO migrations (name) VALUES ($1) ON CONFLICT DO NOTHING",
                &[&name],
            )
            .await?;
        if inserted == 1 {
            transaction.batch_execute(sql).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}
