//! What the fuzz target of a connection's start runs.

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::admission::Admission;
use crate::mux::message::{Message, Startup};

/// Lets a client in, or not, that sends these bytes and no more.
pub(crate) fn startup(data: &[u8]) {
    check_pieces(data);
    let admission = Admission {
        database: "todo".to_owned(),
        password: data
            .first()
            .is_some_and(|first| first & 1 == 1)
            .then(|| "secret".to_owned()),
    };
    let conversation = async {
        let (mut client, mut server) = duplex(1 << 20);
        client.write_all(data).await.expect("there is room");
        client.shutdown().await.expect("it is open");
        let outcome = admission.admit(&mut server).await;
        drop(server);
        let mut seen = Vec::new();
        let read = client.read_to_end(&mut seen).await;
        read.expect("what was said can be read");
        (outcome.is_ok(), seen)
    };
    let (is_decided, seen) = conversation.now_or_never().expect("nobody is waited for");
    let declines = seen.iter().take_while(|&&byte| byte == b'N').count();
    let mut seen = BytesMut::from(&seen[declines..]);
    let mut last = None;
    while let Some(message) = Message::take_backend(&mut seen).expect("what is said is well-formed")
    {
        last = Some(message);
    }
    assert!(seen.is_empty(), "half a message was said");
    let is_refused = last.is_some_and(|last| last.tag() == b'E');
    assert!(
        !is_refused || is_decided,
        "an error is the last that is said"
    );
}

/// A packet is the same in whatever pieces it comes.
fn check_pieces(data: &[u8]) {
    let whole = Startup::take(&mut BytesMut::from(data));
    let mut buffer = BytesMut::new();
    for &byte in data {
        buffer.extend_from_slice(&[byte]);
        match Startup::take(&mut buffer) {
            Ok(None) => {}
            taken => return assert_eq!(taken, whole),
        }
    }
    assert_eq!(whole, Ok(None));
}
