//! One socket, many runtimes.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use super::{Address, Socket};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connected socket over each transport, and the stream at its other end.
fn pairs() -> Vec<(Socket, Box<dyn Peer>)> {
    let connect = |address| runtime().block_on(Socket::connect(&address)).unwrap();

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let over_tcp = connect(Address::Tcp(tcp.local_addr().unwrap()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let over_unix = connect(Address::Unix(path));
    vec![
        (over_tcp, Box::new(tcp.accept().unwrap().0)),
        (over_unix, Box::new(unix.accept().unwrap().0)),
    ]
}

trait Peer: Read + Write + Send {}

impl<S: Read + Write + Send> Peer for S {}

/// A runtime on a thread of its own that borrows the socket for one exchange at a time.
struct Worker {
    sockets: Sender<Socket>,
    returned: Receiver<Socket>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(go: Sender<()>) -> Self {
        let (sockets, borrowed) = channel();
        let (back, returned) = channel();
        let thread = thread::spawn(move || {
            let runtime = runtime();
            for mut socket in borrowed {
                runtime.block_on(exchange(&mut socket, &go));
                back.send(socket).unwrap();
            }
        });
        Self {
            sockets,
            returned,
            thread,
        }
    }

    fn exchange(&self, socket: Socket) -> Socket {
        self.sockets.send(socket).unwrap();
        self.returned.recv().expect("the exchange succeeds")
    }

    /// Ends the runtime.
    fn stop(self) {
        drop(self.sockets);
        self.thread.join().unwrap();
    }
}

/// Writes a byte and reads it back. The peer answers only after `go`, which is given once the read is known to be
/// pending: so it is this runtime's own reactor that has to wake it.
async fn exchange(socket: &mut Socket, go: &Sender<()>) {
    socket.write_all(b"?").await.unwrap();
    let mut asked = false;
    let mut byte = [0];
    poll_fn(|cx| {
        let polled = Pin::new(&mut *socket).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if !asked {
            asked = true;
            assert!(polled.is_pending());
            go.send(()).unwrap();
        }
        polled
    })
    .await
    .unwrap();
    assert_eq!(byte, *b"?");
}

#[test]
fn two_runtimes_take_turns_and_one_survives_the_other() {
    for (mut socket, mut peer) in pairs() {
        let (go, gone) = channel();
        let echo = thread::spawn(move || {
            let mut byte = [0];
            for () in gone {
                peer.read_exact(&mut byte).unwrap();
                peer.write_all(&byte).unwrap();
            }
        });

        let first = Worker::start(go.clone());
        let second = Worker::start(go.clone());
        for _ in 0..50 {
            socket = first.exchange(socket);
            socket = second.exchange(socket);
        }
        assert_eq!(socket.registrations.len(), 2);

        first.stop();
        socket = second.exchange(socket);
        runtime().block_on(exchange(&mut socket, &go));
        assert_eq!(socket.registrations.len(), 3);

        socket.forget_runtimes();
        assert_eq!(socket.registrations.len(), 0);
        socket = second.exchange(socket);
        second.stop();
        socket.forget_runtimes();
        runtime().block_on(exchange(&mut socket, &go));

        drop(go);
        echo.join().unwrap();
    }
}

#[test]
fn more_than_the_kernel_buffers_is_written_and_read() {
    const SIZE: usize = 16 << 20;
    for (mut socket, mut peer) in pairs() {
        let echo = thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            peer.write_all(&received).unwrap();
        });
        let sent: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
        let mut received = Vec::new();
        runtime().block_on(async {
            socket.write_all(&sent).await.unwrap();
            socket.shutdown().await.unwrap();
        });
        runtime().block_on(async {
            socket.read_to_end(&mut received).await.unwrap();
        });
        assert!(sent == received);
        echo.join().unwrap();
    }
}

#[test]
fn dropping_the_socket_ends_the_stream_though_runtimes_still_know_it() {
    for (mut socket, mut peer) in pairs() {
        let runtime = runtime();
        runtime.block_on(socket.write_all(b"last words")).unwrap();
        drop(socket);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"last words");
    }
}

#[test]
fn polling_it_outside_of_a_runtime_is_an_error_that_says_so() {
    for (mut socket, _peer) in pairs() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let reading = Pin::new(&mut socket).poll_read(&mut cx, &mut ReadBuf::new(&mut byte));
        let Poll::Ready(Err(error)) = reading else {
            panic!("there is no reactor that could wake it: {reading:?}");
        };
        assert_eq!(
            error.to_string(),
            "a backend's socket was polled outside of a tokio runtime"
        );
        let writing = Pin::new(&mut socket).poll_write(&mut cx, b"?");
        assert!(matches!(writing, Poll::Ready(Err(_))));
    }
}
