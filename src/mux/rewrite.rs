//! A statement's text with single tokens replaced, and the way back for what the server says about it.
//!
//! It knows no names and no sessions: what is replaced by what is the caller's business.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// What stands in a text, in bytes, and what is to stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) range: Range<usize>,
    pub(super) text: Bytes,
}

/// A text in which something was replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) text: Bytes,
    pub(super) shifts: Shifts,
}

impl Rewritten {
    /// The replacements are those within `range`, in the order in which they stand there.
    pub(super) fn of(text: &[u8], range: Range<usize>, replacements: &[Replacement]) -> Self {
        let mut written = BytesMut::with_capacity(range.len() + 16 * replacements.len());
        let mut shifts = Vec::new();
        let mut at = range.start;
        let mut count = 0;
        for replacement in replacements {
            let kept = &text[at..replacement.range.start];
            count += characters(kept);
            let sent = apart(text, replacement);
            let shift = Shift {
                start: count,
                sent: characters(&sent),
                written: characters(&text[replacement.range.clone()]),
            };
            count += shift.sent;
            shifts.push(shift);
            written.put_slice(kept);
            written.put_slice(&sent);
            at = replacement.range.end;
        }
        written.put_slice(&text[at..range.end]);
        Self {
            text: written.freeze(),
            shifts: Shifts(shifts.into()),
        }
    }
}

/// What is put in, with a space where it would run into what stands beside it: two quotes side by side are one of a longer
/// name, and behind `U&` a quote begins a name with escapes.
fn apart(text: &[u8], replacement: &Replacement) -> Bytes {
    let Range { start, end } = replacement.range;
    let new = &replacement.text;
    let ahead = &text[..start];
    let is_met = [&b"\""[..], b"U&", b"u&"]
        .iter()
        .any(|end| ahead.ends_with(end));
    let before = is_met && new.starts_with(b"\"");
    let after = new.ends_with(b"\"") && text[end..].starts_with(b"\"");
    if !before && !after {
        return new.clone();
    }
    let space = |is_needed: bool| if is_needed { " " } else { "" }.as_bytes();
    [space(before), new, space(after)].concat().into()
}

/// How positions in the text that was sent differ from those in the text that the client wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shifts(Arc<[Shift]>);

/// One replaced token, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shift {
    start: usize,
    sent: usize,
    written: usize,
}

impl Shifts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where in the client's text something stands that has this position in ours. Positions count characters from 1.
    pub(super) fn written(&self, position: usize) -> usize {
        let mut written = position;
        for shift in self.0.iter() {
            if position <= shift.start {
                break;
            }
            let within = position - shift.start - 1;
            if within < shift.sent {
                return written - within;
            }
            written = written + shift.written - shift.sent;
        }
        written
    }
}

/// An identifier as it is to be written so that it means this name and no other.
pub(super) fn quoted(name: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(name.len() + 2);
    text.put_u8(b'"');
    for &byte in name {
        if byte == b'"' {
            text.put_u8(byte);
        }
        text.put_u8(byte);
    }
    text.put_u8(b'"');
    text.freeze()
}

/// How many characters a text has, as the position in an error counts them.
pub(super) fn characters(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

#[cfg(test)]
mod tests;
