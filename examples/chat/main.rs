//! A chat over WebSockets, fed by the database: any instance of the server, or any other program, may write a message,
//! and NOTIFY brings it to everybody.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/chat/schema.sql
//! cargo run --example chat
//! websocat 'ws://127.0.0.1:8080/chat?name=alice'
//! ```

mod feed;
#[cfg(test)]
mod live;
#[path = "../parts/mod.rs"]
mod parts;

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::ErrorServiceUnavailable;
use actix_web::rt::time::timeout;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::{CloseCode, Message, MessageStream, Session};
use deadpool_postgres::Pool;
use feed::{Feed, Messages};
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use parts::Failed;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = parts::database_url()?;
    run(parts::listener()?, parts::pool(&url)?, &url)?.await?;
    Ok(())
}

/// Serves the chat. LISTEN needs a connection for itself, which no pool gives, and so its URL.
fn run(listener: TcpListener, pool: Pool, database_url: &str) -> std::io::Result<Server> {
    let feed = web::Data::new(Feed::start(database_url.to_owned()));
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .app_data(feed.clone())
            .route("/chat", web::get().to(enter))
    });
    Ok(server.listen(listener)?.run())
}

#[derive(Deserialize)]
struct Enter {
    name: String,
}

#[derive(Serialize)]
struct Line<'a> {
    id: i32,
    author: &'a str,
    body: &'a str,
}

/// Shows what was said lately and what is said from now on, and takes what this one says.
async fn enter(
    pool: web::Data<Pool>,
    feed: web::Data<Feed>,
    query: web::Query<Enter>,
    request: HttpRequest,
    body: web::Payload,
) -> actix_web::Result<HttpResponse> {
    // In this order: what is said in between is in both, and told once.
    let Ok(messages) = timeout(Duration::from_secs(5), feed.messages()).await else {
        return Err(ErrorServiceUnavailable("the chat is closed, try again"));
    };
    let past = past(&pool).await?;
    let (response, session, stream) = actix_ws::handle(&request, body)?;
    let chat = Chat {
        pool,
        author: query.into_inner().name,
        session,
    };
    actix_web::rt::spawn(chat.go_on(past, messages, stream));
    Ok(response)
}

async fn past(pool: &Pool) -> Result<Vec<String>, Failed> {
    let client = pool.get().await?;
    let select = "SELECT id, author, body FROM messages ORDER BY id DESC LIMIT 50";
    let rows = client.query(select, &[]).await?;
    rows.iter().rev().map(line).collect()
}

fn line(row: &Row) -> Result<String, Failed> {
    Ok(serde_json::to_string(&Line {
        id: row.get("id"),
        author: row.get("author"),
        body: row.get("body"),
    })?)
}

struct Chat {
    pool: web::Data<Pool>,
    author: String,
    session: Session,
}

impl Chat {
    async fn go_on(mut self, past: Vec<String>, messages: Messages, stream: MessageStream) {
        let reason = self.talk(past, messages, stream).await;
        // Whoever has gone needn't be told.
        let _ = self.session.close(Some(reason.into())).await;
    }

    /// Returns why it is over.
    async fn talk(
        &mut self,
        past: Vec<String>,
        mut messages: Messages,
        mut stream: MessageStream,
    ) -> CloseCode {
        for line in &past {
            if self.session.text(line.clone()).await.is_err() {
                return CloseCode::Away;
            }
        }
        loop {
            let heard = std::pin::pin!(messages.recv());
            match select(heard, stream.next()).await {
                // The feed has lost its connection, or is too fast for this client, which can come again.
                Either::Left((Err(_), _)) => return CloseCode::Again,
                Either::Left((Ok(line), _)) if past.contains(&line) => {}
                Either::Left((Ok(line), _)) => {
                    if self.session.text(line).await.is_err() {
                        return CloseCode::Away;
                    }
                }
                Either::Right((Some(Ok(Message::Text(body))), _)) if body.len() > LONGEST => {
                    return CloseCode::Size;
                }
                Either::Right((Some(Ok(Message::Text(body))), _)) => {
                    if self.say(&body).await.is_err() {
                        return CloseCode::Error;
                    }
                }
                Either::Right((Some(Ok(Message::Ping(bytes))), _)) => {
                    if self.session.pong(&bytes).await.is_err() {
                        return CloseCode::Away;
                    }
                }
                Either::Right((Some(Ok(Message::Pong(_) | Message::Nop)), _)) => {}
                Either::Right((None | Some(Ok(Message::Close(_)) | Err(_)), _)) => {
                    return CloseCode::Normal;
                }
                Either::Right((Some(Ok(_)), _)) => return CloseCode::Unsupported,
            }
        }
    }

    /// Writes a message and notifies of it. PostgreSQL tells everybody when, and only if, both are committed.
    async fn say(&self, body: &str) -> Result<(), Failed> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let insert =
            "INSERT INTO messages (author, body) VALUES ($1, $2) RETURNING id, author, body";
        let row = transaction
            .query_one(insert, &[&self.author, &body])
            .await?;
        let notify = "SELECT pg_notify('chat', $1)";
        transaction.execute(notify, &[&line(&row)?]).await?;
        Ok(transaction.commit().await?)
    }
}

/// In bytes: a notification holds fewer than 8000.
const LONGEST: usize = 1000;
