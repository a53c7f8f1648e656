//! The socket: an address at which any PostgreSQL client joins the shared transaction, as one more session.
//!
//! ```text
//!  psql, another process --TCP--> admission --> relay --in memory--> session of the multiplexer
//!                                     |
//!                                CancelRequest --> the multiplexer
//! ```
//!
//! It is opened when it is first asked for, and runs on one thread of its own, which ends with the transaction. What is
//! said on a session is none of its business: [`admission`] lets a client in, [`relay`] copies bytes.

mod admission;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod relay;
mod wishes;

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::backend::{Canceller, Stream};
use crate::error::{Error, Result};
use crate::mux::driver::Driver;
use crate::mux::message::Message;
use crate::mux::redirect;
use crate::mux::{Initial, Mux};
use crate::secret;
use admission::Admission;
use wishes::Wishes;

/// Where clients from outside join a shared transaction.
pub(crate) struct Entrance {
    driver: Driver<Stream>,
    server: Canceller,
    user: String,
    database: String,
    open: Mutex<Option<Listener>>,
    attendance: watch::Sender<Attendance>,
}

/// Who has come through an entrance.
#[derive(Clone, Copy, Debug, Default)]
struct Attendance {
    /// Connections whose client isn't done.
    present: usize,
    /// A session was opened.
    joined: bool,
    /// The entrance is to be closed behind the last one.
    closing: bool,
    closed: bool,
}

impl Attendance {
    fn is_over(&self) -> bool {
        self.closing && self.joined && self.present == 0
    }
}

impl Entrance {
    /// The entrance to the driver's transaction; `user` and `database` are those of the backend's session, and the server is
    /// where that is.
    pub(crate) fn new(
        driver: Driver<Stream>,
        server: Canceller,
        user: &str,
        database: &str,
    ) -> Arc<Self> {
        Arc::new(Self {
            driver,
            server,
            user: user.to_owned(),
            database: database.to_owned(),
            open: Mutex::new(None),
            attendance: watch::Sender::new(Attendance::default()),
        })
    }

    /// Its address as a URL, behind which a listener stands from now on.
    pub(crate) fn url(self: &Arc<Self>) -> Result<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*open {
            return Ok(listener.url.clone());
        }
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| Error::new("no port of 127.0.0.1 could be bound").because(error))?;
        let listener = open.insert(Listener::start(self, socket, Some(secret::password()))?);
        Ok(listener.url.clone())
    }

    /// The same on a listener of the caller's.
    pub(crate) fn listen(
        self: &Arc<Self>,
        socket: TcpListener,
        password: Option<String>,
    ) -> Result<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*open {
            return Err(Error::new(format!(
                "this transaction listens already, at {}",
                listener.address
            )));
        }
        let listener = open.insert(Listener::start(self, socket, password)?);
        Ok(listener.url.clone())
    }

    /// Waits until somebody has come through here and all who did have gone, and lets nobody else in from then on.
    pub(crate) async fn deserted(&self) {
        self.attendance
            .send_modify(|attendance| attendance.closing = true);
        let mut attendance = self.attendance.subscribe();
        attendance
            .wait_for(|attendance| attendance.closed)
            .await
            .expect("the sender is borrowed, so it is there");
    }

    /// Ends the thread, once what the sessions said last has been passed on.
    pub(crate) async fn close(&self) {
        let listener = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut listener) = listener {
            listener.stop.send_replace(Stop::Politely);
            // An error is the expected answer: the sender was dropped.
            let _ = (&mut listener.ended).await;
        }
    }
}

/// Whether a listener's thread is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    NotYet,
    /// The sessions have ended, and their clients may be told so.
    Politely,
    AtOnce,
}

/// The thread that listens at an address. Dropped, it is stopped and joined.
struct Listener {
    address: SocketAddr,
    url: String,
    stop: watch::Sender<Stop>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    fn start(
        entrance: &Arc<Entrance>,
        socket: TcpListener,
        password: Option<String>,
    ) -> Result<Self> {
        let event = "the socket for other clients could not be opened";
        let failed = |error: io::Error| Error::new(event).because(error);
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let socket = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(socket).map_err(failed)?
        };
        let url = url(
            &entrance.user,
            password.as_deref(),
            address,
            &entrance.database,
        );
        let reception = Arc::new(Reception {
            driver: entrance.driver.clone(),
            server: entrance.server.clone(),
            initials: Mutex::default(),
            admission: Admission {
                database: entrance.database.clone(),
                password,
            },
            attendance: entrance.attendance.clone(),
        });
        let (stop, stopped) = watch::channel(Stop::NotYet);
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("shareddb socket".to_owned())
            .spawn(move || {
                // Dropped last, by a panic too.
                let _end: oneshot::Sender<()> = end;
                runtime.block_on(serve(socket, &reception, stopped));
            })
            .map_err(failed)?;
        Ok(Self {
            address,
            url,
            stop,
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::AtOnce);
        if let Some(thread) = self.thread.take() {
            // A panic on it has been shown by the panic hook, and this may run amid another.
            let _ = thread.join();
        }
    }
}

/// What the connections of one listener have in common.
struct Reception {
    driver: Driver<Stream>,
    server: Canceller,
    /// What the server has made of wishes. Those that wish the same get the same.
    initials: Mutex<Vec<(Wishes, Arc<Initial>)>>,
    admission: Admission,
    attendance: watch::Sender<Attendance>,
}

impl Reception {
    fn enter(&self) -> Entered {
        self.attendance
            .send_modify(|attendance| attendance.present += 1);
        Entered(self.attendance.clone())
    }
}

impl Reception {
    /// What a client starts with that wishes for this, if that isn't what everybody has. An error is what it is told.
    async fn initial(
        &self,
        mut wishes: Wishes,
    ) -> std::result::Result<Option<Arc<Initial>>, Message> {
        let usual = self.driver.look(Mux::parameters);
        let is_usual = |name: &str, value: &str| {
            let mut usual = usual.iter();
            usual.any(|(known, usual)| known.eq_ignore_ascii_case(name) && usual == value)
        };
        let has_options = !wishes.options.is_empty();
        wishes.settings.retain(|(name, value)| {
            // A date style may be given by its first half.
            let dates = [
                value.to_uppercase(),
                format!("{}, MDY", value.to_uppercase()),
            ];
            let is_short = name == "datestyle" && dates.iter().any(|value| is_usual(name, value));
            // It may take back what an option has set.
            has_options || !is_short && !is_usual(name, value)
        });
        if wishes.settings.is_empty() && wishes.others.is_empty() {
            return Ok(None);
        }
        let known = |initials: &Vec<(Wishes, Arc<Initial>)>| {
            let known = initials.iter().find(|(known, _)| *known == wishes);
            known.map(|(_, initial)| Arc::clone(initial))
        };
        if let Some(initial) = known(&self.initials()) {
            return Ok(Some(initial));
        }
        let mut settings = wishes.settings.clone();
        let parameters = if wishes.is_plain_name() {
            let name = &settings[0].1;
            let mut parameters = usual.clone();
            for (known, value) in &mut parameters {
                if known == "application_name" {
                    value.clone_from(name);
                }
            }
            parameters
        } else {
            let tried = self.server.rehearse(&wishes.options, &settings).await?;
            for ((_, value), written) in settings.iter_mut().zip(tried.values) {
                *value = written.unwrap_or_else(|| value.clone());
            }
            tried.parameters
        };
        settings.retain(|(name, value)| !is_usual(name, value));
        for (name, _) in &mut settings {
            if let Some(placeholder) = redirect::placeholder(name) {
                *name = placeholder;
            }
        }
        let initial = Arc::new(Initial {
            parameters,
            settings,
        });
        // Another one may have come with the same in the meantime.
        let mut initials = self.initials();
        if let Some(initial) = known(&initials) {
            return Ok(Some(initial));
        }
        if initials.len() >= INITIALS {
            initials.remove(0);
        }
        initials.push((wishes.clone(), Arc::clone(&initial)));
        Ok(Some(initial))
    }

    fn initials(&self) -> MutexGuard<'_, Vec<(Wishes, Arc<Initial>)>> {
        self.initials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client that is present.
struct Entered(watch::Sender<Attendance>);

impl Entered {
    fn joins(&self) {
        self.0.send_modify(|attendance| attendance.joined = true);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.send_modify(|attendance| attendance.present -= 1);
    }
}

async fn serve(
    socket: tokio::net::TcpListener,
    reception: &Arc<Reception>,
    stop: watch::Receiver<Stop>,
) {
    until(stop.clone(), accept(socket, reception)).await;
    if *stop.borrow() == Stop::AtOnce {
        return;
    }
    let mut attendance = reception.attendance.subscribe();
    let farewell = attendance.wait_for(|attendance| attendance.present == 0);
    let _ = timeout(FAREWELL, farewell).await;
}

async fn accept(socket: tokio::net::TcpListener, reception: &Arc<Reception>) {
    let mut attendance = reception.attendance.subscribe();
    loop {
        let over = attendance.wait_for(Attendance::is_over);
        match select(pin!(over), pin!(socket.accept())).await {
            // Whoever connects now waits in the queue of the caller's listener.
            Either::Left(_) => break,
            Either::Right((Ok((stream, _)), _)) => {
                let entered = reception.enter();
                let reception = Arc::clone(reception);
                tokio::spawn(async move { relay::serve(stream, &reception, entered).await });
            }
            // A client that has gone already, or too many open files: neither ends the listener.
            Either::Right((Err(_), _)) => sleep(PAUSE).await,
        }
    }
    let attendance = &reception.attendance;
    attendance.send_modify(|attendance| attendance.closed = true);
}

/// Works until the stop is called.
async fn until(mut stop: watch::Receiver<Stop>, work: impl Future<Output = ()>) {
    let stopped = stop.wait_for(|&stop| stop != Stop::NotYet);
    select(pin!(stopped), pin!(work)).await;
}

fn url(user: &str, password: Option<&str>, address: SocketAddr, database: &str) -> String {
    let mut url = format!("postgres://{}", encoded(user));
    if let Some(password) = password {
        url.push(':');
        url.push_str(&encoded(password));
    }
    let _ = write!(url, "@{address}/{}", encoded(database));
    url
}

/// Text as it stands in a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// How long a client may take to read what its session said last.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many clients' wishes are remembered, each with what comes of it.
const INITIALS: usize = 64;

/// How long nothing is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_it_was_meant() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5433));
        let url = url("o'neill@home", Some("a:b/c"), address, "to do?");
        assert_eq!(
            url,
            "postgres://o%27neill%40home:a%3Ab%2Fc@127.0.0.1:5433/to%20do%3F"
        );
        let config: tokio_postgres::Config = url.parse().unwrap();
        assert_eq!(config.get_user(), Some("o'neill@home"));
        assert_eq!(config.get_password(), Some(&b"a:b/c"[..]));
        assert_eq!(config.get_dbname(), Some("to do?"));
    }

    #[test]
    fn without_a_password_none_is_named() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5433));
        assert_eq!(
            url("alice", None, address, "todo"),
            "postgres://alice@127.0.0.1:5433/todo"
        );
    }
}
