//! The one connection that listens, for all who are in the chat.

use std::future::poll_fn;
use std::time::Duration;

use actix_web::rt::time::sleep;
use futures_util::future::{Either, select};
use std::pin::pin;
use tokio::sync::{broadcast, watch};
use tokio_postgres::{AsyncMessage, NoTls};

use crate::parts::Failed;

/// Ends when the connection is lost: what is said then isn't heard.
pub(crate) type Messages = broadcast::Receiver<String>;

pub(crate) struct Feed {
    listening: watch::Receiver<Option<broadcast::Sender<String>>>,
}

impl Feed {
    /// Connects, and connects again, for as long as the server lives.
    pub(crate) fn start(database_url: String) -> Self {
        let (tell, listening) = watch::channel(None);
        actix_web::rt::spawn(async move {
            loop {
                let lost = listen(&database_url, &tell).await;
                tell.send_replace(None);
                if lost.is_err() {
                    sleep(Duration::from_secs(1)).await;
                }
            }
        });
        Self { listening }
    }

    /// What is said from now on; waits until somebody listens.
    pub(crate) async fn messages(&self) -> Messages {
        let mut listening = self.listening.clone();
        let sender = listening.wait_for(Option::is_some).await;
        let sender = sender.expect("the task that tells of it lives as long as the server");
        sender
            .as_ref()
            .expect("that's what was waited for")
            .subscribe()
    }
}

/// Passes on what it hears, until the connection is lost.
async fn listen(
    database_url: &str,
    tell: &watch::Sender<Option<broadcast::Sender<String>>>,
) -> Result<(), Failed> {
    let (client, mut connection) = tokio_postgres::connect(database_url, NoTls).await?;
    let (say, _) = broadcast::channel(100);
    let begin = async {
        client.batch_execute("LISTEN chat").await?;
        tell.send_replace(Some(say.clone()));
        std::future::pending().await
    };
    let pass_on = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message? {
                // Nobody may be there.
                let _ = say.send(notification.payload().to_owned());
            }
        }
        Ok(())
    };
    match select(pin!(begin), pin!(pass_on)).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    }
}
