//! How what a fuzzer makes up is read: as a number of the order in which things happen, and records. A record is a
//! message of a type, with contents that may be any and a length that is right; or bytes as they are.

use bytes::{BufMut, BytesMut};

use crate::mux::message::Message;

/// What goes over the wire.
pub(super) fn stream(tags: &[u8], mut records: &[u8]) -> BytesMut {
    let mut stream = BytesMut::new();
    while let [kind, length, rest @ ..] = records {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        records = rest;
        if *kind < 0x80 {
            let tag = tags[usize::from(*kind) % tags.len()];
            let message = Message::build(tag, |frame| frame.put_slice(body));
            stream.put_slice(message.frame());
        } else {
            stream.put_slice(body);
        }
    }
    stream
}

/// What is read as these messages.
pub(in crate::mux) fn encode(tags: &[u8], order: u64, messages: &[Message]) -> Vec<u8> {
    let mut data = order.to_le_bytes().to_vec();
    for message in messages {
        let body = message.body();
        let known = tags.iter().position(|&tag| tag == message.tag());
        let (Some(kind), Ok(length)) = (known, u8::try_from(body.len())) else {
            continue;
        };
        data.extend([u8::try_from(kind).expect("there are few"), length]);
        data.extend(&body);
    }
    data
}
