//! Who is let in: the start of a connection up to AuthenticationOk, in PostgreSQL's own order and words.
//!
//! The password is asked for in clear text, which every driver speaks: it never leaves this machine's loopback interface,
//! and it is worth as much as one test's data for as long as the test runs.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::wishes::Wishes;
use crate::mux::encoding;
use crate::mux::message::to_session::{self, Report};
use crate::mux::message::{MINOR, Message, PROTOCOL_3_0, Startup, parameter, unsupported};

/// What a client has to know.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) database: String,
    /// `None` lets everybody in.
    pub(super) password: Option<String>,
}

/// What a connection turned out to be for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A client knows the password and may have a session, if the server takes what it wants to be set.
    Session {
        /// The minor version of the protocol that it asks for.
        minor: u16,
        wishes: Wishes,
    },
    Cancel {
        process_id: i32,
        secret_key: Bytes,
    },
    /// It was turned away, and told why, or it has gone.
    Nothing,
}

impl Admission {
    /// Talks to a client up to the point where its session takes over.
    pub(super) async fn admit(
        &self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<Purpose> {
        let mut asked = None;
        let (minor, parameters) = loop {
            let Some(packet) = startup_packet(client).await? else {
                return refuse(client, &invalid_length()).await;
            };
            match Startup::take(&mut BytesMut::from(&packet[..])) {
                // After the other one it may be asked for again.
                Ok(Some(Startup::Encryption(code))) if asked != Some(code) => {
                    asked = Some(code);
                    client.write_all(to_session::NO_ENCRYPTION).await?;
                }
                Ok(Some(Startup::Cancel {
                    process_id,
                    secret_key,
                })) => {
                    return Ok(Purpose::Cancel {
                        process_id,
                        secret_key,
                    });
                }
                Ok(Some(Startup::Session { minor, parameters })) => break (minor, parameters),
                Ok(Some(Startup::Encryption(code) | Startup::Unsupported(code))) => {
                    let report =
                        Report::fatal(FEATURE_NOT_SUPPORTED, unsupported(code).to_string());
                    return refuse(client, &report).await;
                }
                Ok(None) => return refuse(client, &invalid_length()).await,
                Err(violation) => {
                    let report = Report::fatal(PROTOCOL_VIOLATION, violation.to_string());
                    return refuse(client, &report).await;
                }
            }
        };
        if let Some(negotiation) = negotiation(minor, &parameters) {
            client.write_all(negotiation.frame()).await?;
        }
        let user = parameter(&parameters, "user").unwrap_or_default();
        if user.is_empty() {
            let text = "no PostgreSQL user name specified in startup packet";
            let report = Report::fatal(INVALID_AUTHORIZATION_SPECIFICATION, text);
            return refuse(client, &report).await;
        }
        if let Some(password) = &self.password
            && let Err(report) = authenticate(client, user, password).await?
        {
            return refuse(client, &report).await;
        }
        let database = parameter(&parameters, "database")
            .filter(|name| !name.is_empty())
            .unwrap_or(user);
        let mut wishes = Wishes::of(&parameters);
        let encoding = wishes.take("client_encoding");
        let encoding = encoding.as_deref().unwrap_or("UTF8");
        if let Some(report) = self.refusal(database, encoding, &parameters) {
            return refuse(client, &report).await;
        }
        Ok(Purpose::Session { minor, wishes })
    }

    /// Why a client that knows the password can't have a session all the same.
    fn refusal(
        &self,
        database: &str,
        client_encoding: &str,
        parameters: &[(String, String)],
    ) -> Option<Report> {
        if database != self.database {
            let text = format!("database \"{database}\" does not exist");
            return Some(
                Report::fatal(INVALID_CATALOG_NAME, text)
                    .hint(format!("This socket serves \"{}\" alone.", self.database)),
            );
        }
        // An empty value and the words for "no" mean an ordinary session.
        let replication = parameter(parameters, "replication").unwrap_or_default();
        if !["", "false", "off", "no", "0"].contains(&&replication.to_lowercase()[..]) {
            let text = "replication needs a connection of its own to the server";
            return Some(Report::fatal(FEATURE_NOT_SUPPORTED, text));
        }
        // The one backend converts for all of its sessions or for none.
        if !encoding::is_utf8(client_encoding) {
            let text = encoding::refusal(client_encoding);
            return Some(
                Report::fatal(encoding::REFUSED, text).hint(
                    "Connect with client_encoding=UTF8; psql takes it from PGCLIENTENCODING.",
                ),
            );
        }
        None
    }
}

/// Reads one startup packet whole; `None` if its length can't be right.
async fn startup_packet(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut packet = vec![0; 4];
    client.read_exact(&mut packet).await?;
    let length = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]) as usize;
    if !(8..=Startup::LIMIT).contains(&length) {
        return Ok(None);
    }
    packet.resize(length, 0);
    client.read_exact(&mut packet[4..]).await?;
    Ok(Some(packet))
}

/// "If the server does not support the minor version or the options, it sends NegotiateProtocolVersion": what it
/// supports, and the options that it doesn't know.
fn negotiation(minor: u16, parameters: &[(String, String)]) -> Option<Message> {
    let unknown: Vec<_> = parameters
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    (minor > MINOR || !unknown.is_empty()).then(|| {
        Message::build(b'v', |body| {
            body.put_u32(PROTOCOL_3_0 + u32::from(minor.min(MINOR)));
            body.put_u32(u32::try_from(unknown.len()).expect("a startup packet is short"));
            for name in unknown {
                body.put_slice(name.as_bytes());
                body.put_u8(0);
            }
        })
    })
}

/// Asks for the password. The outer error is the connection's, the inner one the client's.
async fn authenticate(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
    password: &str,
) -> io::Result<Result<(), Report>> {
    let request = to_session::authentication_cleartext_password();
    client.write_all(request.frame()).await?;
    let tag = client.read_u8().await?;
    if tag != b'p' {
        let text = format!("expected password response, got message type {tag}");
        return Ok(Err(Report::fatal(PROTOCOL_VIOLATION, text)));
    }
    let length = client.read_u32().await? as usize;
    if !(5..=PASSWORD_LIMIT).contains(&length) {
        let text = "invalid message length";
        return Ok(Err(Report::fatal(PROTOCOL_VIOLATION, text)));
    }
    let mut answer = vec![0; length - 4];
    client.read_exact(&mut answer).await?;
    let Some((0, answer)) = answer.split_last() else {
        let text = "invalid password packet size";
        return Ok(Err(Report::fatal(PROTOCOL_VIOLATION, text)));
    };
    if answer == password.as_bytes() {
        return Ok(Ok(()));
    }
    let text = format!("password authentication failed for user \"{user}\"");
    Ok(Err(Report::fatal(INVALID_PASSWORD, text)))
}

/// Tells a client why it can't come in.
async fn refuse(client: &mut (impl AsyncWrite + Unpin), report: &Report) -> io::Result<Purpose> {
    client.write_all(report.message().frame()).await?;
    Ok(Purpose::Nothing)
}

fn invalid_length() -> Report {
    Report::fatal(PROTOCOL_VIOLATION, "invalid length of startup packet")
}

/// The longest password that PostgreSQL accepts (`PG_MAX_AUTH_TOKEN_LENGTH`).
const PASSWORD_LIMIT: usize = 65_535;

const PROTOCOL_VIOLATION: &str = "08P01";
const FEATURE_NOT_SUPPORTED: &str = "0A000";
const INVALID_AUTHORIZATION_SPECIFICATION: &str = "28000";
const INVALID_PASSWORD: &str = "28P01";
const INVALID_CATALOG_NAME: &str = "3D000";

#[cfg(test)]
mod tests;
