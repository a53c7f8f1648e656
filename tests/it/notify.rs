//! Clients that do nothing but wait for a notification: who moves the bytes must wake them.

use std::future::poll_fn;
use std::time::Duration;

use actix_shareddb::__private;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

use crate::stage::{Database, SCHEMA, connect};
use crate::wire;

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client whose notifications come out of the channel, with its task that sleeps in between.
async fn listener(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    config: &tokio_postgres::Config,
) -> (Client, UnboundedReceiver<Notification>) {
    let (client, mut connection) = config.connect_raw(stream, NoTls).await.unwrap();
    let (heard, notifications) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                heard.send(notification).unwrap();
            }
        }
    });
    (client, notifications)
}

async fn hear(notifications: &mut UnboundedReceiver<Notification>) -> Notification {
    let heard = timeout(PATIENCE, notifications.recv()).await;
    heard.expect("it is woken").expect("it is there")
}

#[tokio::test]
async fn an_idle_client_is_woken_by_a_notification() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let stream = __private::session(&transaction);
        let (client, mut notifications) = listener(stream, &database.config).await;
        client.batch_execute("LISTEN news").await.unwrap();

        let pool = transaction.pool().unwrap();
        let mut sender = pool.get().await.unwrap();
        sender.batch_execute("NOTIFY news, 'one'").await.unwrap();
        let one = hear(&mut notifications).await;
        assert_eq!((one.channel(), one.payload()), ("news", "one"));

        let block = sender.transaction().await.unwrap();
        let notify = "SELECT pg_notify($1, $2)";
        block.execute(notify, &[&"news", &"two"]).await.unwrap();
        block.execute("NOTIFY news, 'three'", &[]).await.unwrap();
        assert!(notifications.try_recv().is_err());
        block.commit().await.unwrap();
        let two = hear(&mut notifications).await;
        let three = hear(&mut notifications).await;
        assert_eq!((two.payload(), three.payload()), ("two", "three"));
        // Both are of one session, by the number that its client knows it by.
        assert_eq!(two.process_id(), one.process_id());

        drop(client);
        assert!(notifications.recv().await.is_none());
        sender.batch_execute("NOTIFY news, 'nobody'").await.unwrap();
        drop(sender);
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn it_is_woken_by_another_runtime() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let stream = __private::session(&transaction);
        let (client, mut notifications) = listener(stream, &database.config).await;
        client.batch_execute("LISTEN news").await.unwrap();
        let pool = transaction.pool().unwrap();
        let sender = std::thread::spawn(move || {
            let send = async {
                let client = pool.get().await.unwrap();
                client.batch_execute("NOTIFY news").await.unwrap();
            };
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(send);
        });
        assert_eq!(hear(&mut notifications).await.channel(), "news");
        sender.join().unwrap();
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn it_comes_through_the_socket() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let url: tokio_postgres::Config = transaction.database_url().unwrap().parse().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", url.get_ports()[0]))
            .await
            .unwrap();
        let mut client = wire::Client::start(Box::new(stream), &url).await;
        client.send(&[wire::query("LISTEN news")]).await.unwrap();
        while client.next().await.unwrap().unwrap().tag != b'Z' {}

        let sender = connect(&url).await;
        sender.batch_execute("NOTIFY news, 'one'").await.unwrap();
        let heard = timeout(PATIENCE, client.next()).await.expect("it comes");
        assert_eq!(
            heard.unwrap().unwrap().line(),
            "NotificationResponse \"news\" \"one\""
        );
        // One that is told nothing any more is no obstacle to the end.
        drop(sender);
        transaction.rollback().await.unwrap();
    })
    .await;
}
