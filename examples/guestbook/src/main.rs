//! A guest book: one page, rendered by the server, with a form in it.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/guestbook/src/schema.sql
//! cargo run --manifest-path examples/guestbook/Cargo.toml
//! ```

#[cfg(test)]
mod browser;
#[cfg(test)]
mod live;
#[path = "../../parts/mod.rs"]
mod parts;

use std::error::Error;
use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, LOCATION};
use actix_web::{App, HttpResponse, HttpServer, web};
use deadpool_postgres::Pool;
use parts::Failed;
use serde::Deserialize;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = parts::pool(&parts::database_url()?)?;
    run(parts::listener()?, pool)?.await?;
    Ok(())
}

fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .route("/", web::get().to(show))
            .route("/", web::post().to(sign))
    });
    Ok(server.listen(listener)?.run())
}

async fn show(pool: web::Data<Pool>) -> Result<HttpResponse, Failed> {
    page(&pool, StatusCode::OK, &Form::default(), "").await
}

#[derive(Default, Deserialize)]
struct Form {
    name: String,
    words: String,
}

/// Takes an entry, and sends the browser back to the page, so that a reload doesn't sign again.
async fn sign(pool: web::Data<Pool>, form: web::Form<Form>) -> Result<HttpResponse, Failed> {
    if form.name.trim().is_empty() || form.words.trim().is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return page(
            &pool,
            status,
            &form,
            "Who are you, and what do you have to say?",
        )
        .await;
    }
    let insert = "INSERT INTO entries (name, words) VALUES ($1, $2)";
    let client = pool.get().await?;
    client.execute(insert, &[&form.name, &form.words]).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((LOCATION, "/"))
        .finish())
}

/// The page, with what was typed into its form, and what is wrong with that.
async fn page(
    pool: &Pool,
    status: StatusCode,
    form: &Form,
    problem: &str,
) -> Result<HttpResponse, Failed> {
    let client = pool.get().await?;
    let select = "SELECT name, words FROM entries ORDER BY id DESC LIMIT 100";
    let rows = client.query(select, &[]).await?;
    let entries: String = rows
        .iter()
        .map(|row| {
            let (name, words) = (text(row.get("name")), text(row.get("words")));
            format!("<li><b>{name}</b>: <span>{words}</span></li>\n")
        })
        .collect();
    let (name, words) = (text(&form.name), text(&form.words));
    let html = format!(
        r#"<!DOCTYPE html>
<html lang="en">
<title>Guest book</title>
<h1>Guest book</h1>
<p id="problem">{problem}</p>
<form method="post">
<input name="name" placeholder="name" value="{name}">
<input name="words" placeholder="words" value="{words}">
<button>Sign</button>
</form>
<ul>
{entries}</ul>
</html>
"#
    );
    Ok(HttpResponse::build(status)
        .content_type(ContentType::html())
        .body(html))
}

/// Text as HTML that shows just that, between tags and within quotes.
fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
