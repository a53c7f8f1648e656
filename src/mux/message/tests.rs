use super::{Message, SHARED, to_backend};
use bytes::BytesMut;

#[test]
fn what_is_kept_of_a_message_keeps_little_more() {
    let small = to_backend::query(b"SELECT 1");
    let large = to_backend::query(&vec![b' '; 2 * SHARED]);
    let frames = [small.frame(), large.frame(), small.frame()].map(|frame| &frame[..]);
    let mut buffer = BytesMut::from(&frames.concat()[..]);
    let first = Message::take_frontend(&mut buffer).unwrap().unwrap();
    assert_eq!(first, small);
    assert!(first.frame().is_unique());
    let second = Message::take_frontend(&mut buffer).unwrap().unwrap();
    assert_eq!(second, large);
    assert!(second.frame().is_unique());
    assert!(buffer.capacity() < SHARED);
    let third = Message::take_frontend(&mut buffer).unwrap().unwrap();
    assert_eq!(third, small);
    assert!(buffer.is_empty());
}
