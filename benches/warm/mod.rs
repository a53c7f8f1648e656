//! A connection that was made before the clock runs, under an ordinary pool: the least that a test with a database can
//! cost, whoever makes it.
//!
//! The pool's client gets the server's first answers from memory, and its farewell isn't sent.

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};

/// The connection, in a transaction.
pub(crate) struct Warm {
    socket: UnixStream,
    greeting: Vec<u8>,
    target: tokio_postgres::Config,
}

impl Warm {
    /// Connects to a server that trusts its Unix socket, as the embedded one does.
    pub(crate) fn connect(target: &tokio_postgres::Config) -> Self {
        let [Host::Unix(folder)] = target.get_hosts() else {
            panic!("only a server at a Unix socket is asked for its greeting")
        };
        let port = target.get_ports().first().copied().unwrap_or(5432);
        let mut socket = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).unwrap();
        let (user, database) = (target.get_user().unwrap(), target.get_dbname().unwrap());
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        for word in [
            "user",
            user,
            "database",
            database,
            "client_encoding",
            "UTF8",
            "",
        ] {
            startup.extend(word.as_bytes());
            startup.push(0);
        }
        let length = i32::try_from(startup.len() + 4).unwrap();
        socket.write_all(&length.to_be_bytes()).unwrap();
        socket.write_all(&startup).unwrap();
        let mut warm = Self {
            greeting: until_ready(&mut socket),
            socket,
            target: target.clone(),
        };
        warm.query("BEGIN");
        warm
    }

    /// A pool that has this connection once.
    pub(crate) fn pool(&self) -> Pool {
        let greeted = Greeted {
            socket: self.socket.try_clone().unwrap(),
            greeting: self.greeting.clone(),
        };
        Pool::builder(Manager::from_connect(
            self.target.clone(),
            greeted,
            ManagerConfig::default(),
        ))
        .max_size(1)
        .build()
        .unwrap()
    }

    /// Rolls back and begins anew, in one round trip.
    pub(crate) fn start_over(&mut self) {
        self.query("ROLLBACK; DEALLOCATE ALL; BEGIN");
    }

    fn query(&mut self, sql: &str) {
        let mut message = vec![b'Q'];
        message.extend(i32::try_from(sql.len() + 5).unwrap().to_be_bytes());
        message.extend(sql.as_bytes());
        message.push(0);
        self.socket.set_nonblocking(false).unwrap();
        self.socket.write_all(&message).unwrap();
        until_ready(&mut self.socket);
    }
}

/// Everything up to the next ReadyForQuery.
fn until_ready(socket: &mut UnixStream) -> Vec<u8> {
    let mut answers = Vec::new();
    let mut buffer = [0; 4096];
    let mut next = 0;
    loop {
        let read = socket.read(&mut buffer).unwrap();
        assert!(read > 0, "the server closed the connection");
        answers.extend(&buffer[..read]);
        while let Some(&[kind, a, b, c, d]) = answers.get(next..next + 5) {
            let end = next + 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            if answers.len() < end {
                break;
            }
            assert!(
                kind != b'E',
                "{}",
                String::from_utf8_lossy(&answers[next..end])
            );
            if kind == b'Z' {
                return answers;
            }
            next = end;
        }
    }
}

struct Greeted {
    socket: UnixStream,
    greeting: Vec<u8>,
}

impl Connect for Greeted {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let socket = self.socket.try_clone().unwrap();
            socket.set_nonblocking(true).unwrap();
            let stream = Stream {
                socket: tokio::net::UnixStream::from_std(socket).unwrap(),
                greeting: self.greeting.clone(),
                has_started: false,
            };
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            Ok((client, tokio::spawn(async move { drop(connection.await) })))
        })
    }
}

type Connected = (Client, JoinHandle<()>);

struct Stream {
    socket: tokio::net::UnixStream,
    /// What is still to be read of it.
    greeting: Vec<u8>,
    has_started: bool,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let length = self.greeting.len().min(buffer.remaining());
        buffer.put_slice(&self.greeting[..length]);
        self.greeting.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_farewell = bytes == b"X\0\0\0\x04";
        if self.has_started && !is_farewell {
            return Pin::new(&mut self.socket).poll_write(context, bytes);
        }
        self.has_started = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
