//! Startup and authentication, done by `tokio_postgres` on a stream that is taken back afterwards.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use postgres_protocol::escape::escape_identifier;
use postgres_protocol::message::backend::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, TlsStream};
use tokio_postgres::{Client, Config, Connection};

use super::address::Address;
use super::stream::{Encryption, Stream, UNENCRYPTED, Unconnected};
use super::tls::Established;
use super::{Backend, Canceller};

/// Why an address gave no session.
pub(super) struct Failure {
    pub(super) cause: Box<dyn StdError + Send + Sync>,
    pub(super) help: String,
    /// Whether a server answered there. Then no other host is tried: it would hide a wrong password behind
    /// "connection refused". The exception is a server that is only starting up or shutting down, as in libpq.
    pub(super) is_final: bool,
}

/// Connects to one address, runs startup and authentication there, and takes the stream back.
pub(super) async fn open(
    config: &Config,
    address: &Address,
    encryption: &Encryption,
) -> Result<Backend, Failure> {
    let mut tap = Tap {
        stream: Stream::connect(address, encryption).await?,
        recorded: BytesMut::new(),
    };
    // Dropping the client and its connection at once writes nothing: a `Connection` says Terminate only when polled.
    established(config)
        .connect_raw(&mut tap, Established)
        .await
        .map(drop)
        .map_err(|error| Failure::refused(config, error))?;
    let recording = Recording::read(tap.recorded).map_err(|error| Failure {
        cause: error.into(),
        help: "a proxy or pooler in between may be the reason; connect to the server itself".into(),
        is_final: true,
    })?;
    let canceller = Canceller {
        process_id: recording.process_id,
        secret_key: recording.secret_key,
        address: address.clone(),
        encryption: encryption.clone(),
        config: Arc::new(config.clone()),
    };
    Ok(Backend::new(tap.stream, recording.parameters, canceller))
}

/// Connects to one address as any application does.
pub(super) async fn client(
    config: &Config,
    address: &Address,
    encryption: &Encryption,
) -> Result<(Client, Connection<Stream, Stream>), Failure> {
    let stream = Stream::connect(address, encryption).await?;
    established(config)
        .connect_raw(stream, Established)
        .await
        .map_err(|error| Failure::refused(config, error))
}

/// The configuration of a connection on which there is nothing left to negotiate.
fn established(config: &Config) -> Config {
    let mut config = config.clone();
    config
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    config
}

/// What `tokio_postgres` keeps to itself: the parameters as a list, and the key.
struct Recording {
    parameters: Vec<(String, String)>,
    process_id: i32,
    secret_key: i32,
}

impl Recording {
    fn read(mut bytes: BytesMut) -> io::Result<Self> {
        let mut parameters = Vec::new();
        let mut key = None;
        loop {
            match Message::parse(&mut bytes)? {
                Some(Message::ParameterStatus(body)) => {
                    parameters.push((body.name()?.to_owned(), body.value()?.to_owned()));
                }
                Some(Message::BackendKeyData(body)) => key = Some(body),
                Some(Message::ReadyForQuery(_)) => break,
                Some(_) => {}
                None => return Err(invalid("the startup ended without ReadyForQuery")),
            }
        }
        // These bytes were read from the socket, so whoever takes it over would never see them.
        if !bytes.is_empty() {
            return Err(invalid("the server spoke unasked after ReadyForQuery"));
        }
        let key = key.ok_or_else(|| {
            invalid(
                "the server sent no BackendKeyData, without which no statement can be cancelled",
            )
        })?;
        Ok(Self {
            parameters,
            process_id: key.process_id(),
            secret_key: key.secret_key(),
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Failure {
    fn refused(config: &Config, error: tokio_postgres::Error) -> Self {
        let help = match error.code() {
            Some(&SqlState::INVALID_PASSWORD) => {
                "check the user and the password of the connection string".into()
            }
            Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                format!(
                    "if the role is missing, create it (`createuser --createdb NAME`) or name another user in the \
                     connection string; if it may not log in, ALTER ROLE {} LOGIN; if pg_hba.conf shuts it out, add a \
                     line for it there",
                    escape_identifier(role(config))
                )
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => grant_connect(config),
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                "create the database (`createdb NAME`) or name another one in the connection string"
                    .into()
            }
            Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                "raise max_connections of the server, or run fewer tests at a time (--test-threads)"
                    .into()
            }
            Some(&SqlState::CANNOT_CONNECT_NOW) => "wait until the server has started".into(),
            Some(_) => "the server's message says what it wants; its log may say more".into(),
            None if config.get_password().is_none() && is_about_password(&error) => {
                "the server asks for a password: add one to the connection string".into()
            }
            None => "check that it is a PostgreSQL server that listens there; its log may say more"
                .into(),
        };
        Self {
            is_final: error.code() != Some(&SqlState::CANNOT_CONNECT_NOW),
            cause: match error.as_db_error() {
                // The wrapper's own words are just "db error".
                Some(db_error) => db_error.clone().into(),
                None => error.into(),
            },
            help,
        }
    }
}

impl From<Unconnected> for Failure {
    fn from(reason: Unconnected) -> Self {
        match reason {
            Unconnected::Unreachable(error) => error.into(),
            Unconnected::Unencrypted => Self {
                cause: UNENCRYPTED.into(),
                help: "set `ssl = on` there, with a certificate, or use sslmode=prefer or sslmode=disable with a server \
                       on this machine or in a trusted network"
                    .into(),
                is_final: true,
            },
            Unconnected::Handshake(cause) => Self {
                cause,
                help: "check that the connector given to Config::tls trusts who signed the server's certificate, and that \
                       the host is called as the certificate says"
                    .into(),
                is_final: true,
            },
        }
    }
}

/// No server was met there.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            cause: error.into(),
            help: "start PostgreSQL, or correct the host and the port of the connection string"
                .into(),
            is_final: false,
        }
    }
}

/// What lets the role into the database.
fn grant_connect(config: &Config) -> String {
    let role = role(config);
    let database = config.get_dbname().unwrap_or(role);
    format!(
        "let the role in, as the database's owner: GRANT CONNECT ON DATABASE {} TO {};",
        escape_identifier(database),
        escape_identifier(role)
    )
}

/// Who connects, or what stands for a user that only the operating system knows.
fn role(config: &Config) -> &str {
    config.get_user().unwrap_or("NAME")
}

/// Whether a password was asked for, and there was none to give.
fn is_about_password(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|cause| cause.to_string() == "password missing")
}

/// The stream during startup, with a recording of all that was read from it.
struct Tap {
    stream: Stream,
    recorded: BytesMut,
}

impl TlsStream for &mut Tap {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut tap.stream).poll_read(cx, buffer))?;
        tap.recorded.extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
