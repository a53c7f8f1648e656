//! What the comment of a database says: whose it is, what was found in it, and when it was last used.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

use crate::error::Result;
use crate::mux::Reads;
use crate::schema;

/// How the comment of all databases of this package begins; what was found and the date of their last use follow.
pub(super) fn beginning() -> Result<String> {
    let package = schema::package_dir()?;
    Ok(format!(
        "actix-shareddb: prepared for {}, ",
        package.display()
    ))
}

/// What the comment says then of a database of which that is known.
pub(super) const PURE: &str = "holds nothing that writes when it's read, ";

/// Not in the time zone of a session, which the database may determine.
pub(super) const TODAY: &str =
    "pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')";

/// Dates a database, so that it is dropped when nobody has used it for long, and notes down what was found in it.
pub(super) async fn write(client: &Client, name: &str, reads: Reads) -> Result<()> {
    let today = format!("SELECT {TODAY}");
    let rows = client.query_typed(&today, &[]).await?;
    let today: &str = rows.first().map_or("", |row| row.get(0));
    let found = match reads {
        Reads::Pure => PURE,
        Reads::Doubtful => "",
    };
    let comment = format!("{}{found}last used {today}", beginning()?);
    let comment_on = format!(
        "COMMENT ON DATABASE {} IS {}",
        escape_identifier(name),
        escape_literal(&comment)
    );
    Ok(client.batch_execute(&comment_on).await?)
}
