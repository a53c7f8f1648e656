//! Live tests: several WebSockets at once, and messages that come from elsewhere.

use std::fmt::Debug;
use std::net::TcpListener;

use actix_shareddb::{
    DatabaseUrls, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server,
};
use actix_web::dev::Server;
use awc::ws::{CloseCode, Frame, Message};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::{Value, json};

#[derive(Default)]
struct Chat {
    database_url: String,
}

impl LiveServerTestCase for Chat {
    fn schema() -> Schema {
        Schema::dir("examples/chat")
    }

    /// The connection that listens is in the transaction, too.
    fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
        self.database_url = urls.database_url()?;
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(super::run(listener, pool, &self.database_url)?)
    }
}

/// Enters the chat, whose lines come out of the socket.
async fn enter(
    live: &LiveServer,
    name: &str,
) -> Result<impl Stream<Item = Result<Frame, impl Debug>> + Sink<Message, Error = impl Debug> + Unpin>
{
    let (response, socket) = live.ws(&format!("/chat?name={name}")).connect().await?;
    assert_eq!(response.status(), 101);
    Ok(socket)
}

async fn say(socket: &mut (impl Sink<Message, Error = impl Debug> + Unpin), body: &str) {
    socket
        .send(Message::Text(body.to_owned().into()))
        .await
        .unwrap();
}

/// The next line that is heard, without its number.
async fn hear(
    socket: &mut (impl Stream<Item = Result<Frame, impl Debug>> + Unpin),
) -> (String, String) {
    let Frame::Text(line) = socket.next().await.unwrap().unwrap() else {
        panic!("no text came");
    };
    let line: Value = serde_json::from_slice(&line).unwrap();
    let text = |name| line[name].as_str().unwrap().to_owned();
    (text("author"), text("body"))
}

/// What another program does that knows the tables.
async fn write(live: &LiveServer, body: &str, commit: bool) -> Result<()> {
    let mut client = live.pool().get().await?;
    let transaction = client.transaction().await?;
    let insert = "INSERT INTO messages (author, body) VALUES ('robot', $1) RETURNING id";
    let id: i32 = transaction.query_one(insert, &[&body]).await?.get("id");
    let line = json!({ "id": id, "author": "robot", "body": body });
    transaction
        .execute("SELECT pg_notify('chat', $1)", &[&line.to_string()])
        .await?;
    match commit {
        true => transaction.commit().await?,
        false => transaction.rollback().await?,
    }
    Ok(())
}

fn line(author: &str, body: &str) -> (String, String) {
    (author.to_owned(), body.to_owned())
}

live_server! {
    impl Chat {
        async fn what_one_says_all_hear(&mut self, live: &LiveServer) -> Result<()> {
            let mut alice = enter(live, "alice").await?;
            let mut bob = enter(live, "bob").await?;
            say(&mut alice, "hello").await;
            assert_eq!(hear(&mut bob).await, line("alice", "hello"));
            assert_eq!(hear(&mut alice).await, line("alice", "hello"));
            say(&mut bob, "who is there?").await;
            assert_eq!(hear(&mut bob).await, line("bob", "who is there?"));
            assert_eq!(hear(&mut alice).await, line("bob", "who is there?"));
            Ok(())
        }

        async fn who_comes_later_is_told_what_was_said(&mut self, live: &LiveServer) -> Result<()> {
            let mut alice = enter(live, "alice").await?;
            for body in ["one", "two"] {
                say(&mut alice, body).await;
                assert_eq!(hear(&mut alice).await, line("alice", body));
            }
            let mut bob = enter(live, "bob").await?;
            say(&mut alice, "three").await;
            for body in ["one", "two", "three"] {
                assert_eq!(hear(&mut bob).await, line("alice", body));
            }
            Ok(())
        }

        /// Nobody hears what was rolled back: the next thing that comes is what was said after it.
        async fn another_program_is_heard_when_it_commits(&mut self, live: &LiveServer) -> Result<()> {
            let mut alice = enter(live, "alice").await?;
            write(live, "never said", false).await?;
            write(live, "backup done", true).await?;
            assert_eq!(hear(&mut alice).await, line("robot", "backup done"));

            let mut bob = enter(live, "bob").await?;
            assert_eq!(hear(&mut bob).await, line("robot", "backup done"));
            Ok(())
        }

        async fn who_says_too_much_has_to_go(&mut self, live: &LiveServer) -> Result<()> {
            let mut alice = enter(live, "alice").await?;
            let mut bob = enter(live, "bob").await?;
            say(&mut bob, &"x".repeat(super::LONGEST + 1)).await;
            let Frame::Close(Some(reason)) = bob.next().await.unwrap().unwrap() else {
                panic!("the socket was not closed");
            };
            assert_eq!(reason.code, CloseCode::Size);

            say(&mut alice, "at last").await;
            assert_eq!(hear(&mut alice).await, line("alice", "at last"));
            Ok(())
        }
    }
}
