//! One connection: the client is let in, then bytes are copied both ways until either side ends.

use std::io;
use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink, split};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::Purpose;
use super::wishes::Wishes;
use super::{Entered, Reception};
use crate::backend::Stream;
use crate::mux::driver::SessionStream;
use crate::mux::message::{Startup, backend, to_session};
use crate::secret;

/// Serves one connection to its end. An error of its own ends it, and is nobody else's concern.
pub(super) async fn serve(mut client: TcpStream, reception: &Reception, entered: Entered) {
    let _ = client.set_nodelay(true);
    let admission = reception.admission.admit(&mut client);
    match timeout(AUTHENTICATION_TIMEOUT, admission).await {
        Ok(Ok(Purpose::Session { minor, wishes })) => match reception.initial(wishes.clone()).await
        {
            Ok(initial) => {
                entered.joins();
                let key = secret::key(minor >= LONG_KEYS);
                let session = reception.driver.connect_guest(key, initial);
                let name = wishes.get("application_name").unwrap_or_default();
                let _ = join_session(client, session, entered, name, &wishes).await;
            }
            Err(refusal) => {
                let _ = client.write_all(refusal.frame()).await;
                drop(entered);
                let _ = timeout(AUTHENTICATION_TIMEOUT, part(client)).await;
            }
        },
        Ok(Ok(Purpose::Cancel {
            process_id,
            secret_key,
        })) => reception.driver.cancel(process_id, secret_key),
        Ok(Ok(Purpose::Nothing)) => {
            drop(entered);
            let _ = timeout(AUTHENTICATION_TIMEOUT, part(client)).await;
        }
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Copies bytes between a client and a session of its own.
async fn join_session(
    mut client: TcpStream,
    mut session: SessionStream<Stream>,
    entered: Entered,
    application_name: &str,
    wishes: &Wishes,
) -> io::Result<()> {
    session
        .write_all(&Startup::packet(application_name))
        .await?;
    // AuthenticationOk, behind which notices may stand; anything else is the start of a refusal.
    let mut first = [0; 9];
    session.read_exact(&mut first).await?;
    client.write_all(&first).await?;
    if first[0] == backend::AUTHENTICATION {
        for option in &wishes.others {
            let text = format!("the option \"{option}\" has no effect in a shared transaction");
            let warning = to_session::Report::warning("01000", text)
                .hint("All clients share one connection. Settings are given by their names: -c name=value.");
            client.write_all(warning.message().frame()).await?;
        }
    }

    let (mut from_client, mut to_client) = client.split();
    let (mut from_session, mut to_session) = split(session);
    let up = async {
        // It ends where the client goes, and where the session does.
        let _ = copy(&mut from_client, &mut to_session).await;
        let _ = to_session.shutdown().await;
        // As in `part`.
        copy(&mut from_client, &mut sink()).await
    };
    let down = async {
        let copied = copy(&mut from_session, &mut to_client).await;
        let _ = to_client.shutdown().await;
        drop(entered);
        copied
    };
    let (up, down) = join(up, down).await;
    up.and(down).map(drop)
}

/// Closes the connection of a client that was told why. To close one with unread bytes resets it, and could cost the
/// client the last words, so what it still sends is read.
async fn part(mut client: TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    copy(&mut client, &mut sink()).await.map(drop)
}

/// The minor version of the protocol that brought long keys.
const LONG_KEYS: u16 = 2;

/// How long a client may take to say who it is, as PostgreSQL has it by default (`authentication_timeout`).
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);
