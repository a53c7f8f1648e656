//! What a client opens its connection with.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Fields, ProtocolViolation};

/// A packet without a tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    /// SSLRequest or GSSENCRequest, by its code.
    Encryption(u32),
    /// CancelRequest.
    Cancel { process_id: i32, secret_key: Bytes },
    /// StartupMessage of protocol 3, with its minor version and its parameters in the order in which they came.
    Session {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
    /// Something else, by its version or code.
    Unsupported(u32),
}

/// The value of a parameter of a StartupMessage, if it was given.
pub(crate) fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut parameters = parameters.iter();
    parameters
        .find(|(known, _)| known == name)
        .map(|(_, value)| &value[..])
}

const CANCEL_REQUEST_CODE: u32 = 80_877_102;
const SSL_REQUEST_CODE: u32 = 80_877_103;
const GSSENC_REQUEST_CODE: u32 = 80_877_104;

/// The versions of the protocol that are spoken here: from this one on, and up to this minor version.
pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;
pub(crate) const MINOR: u16 = 2;

/// The longest secret key of a CancelRequest, as the protocol has it from 3.2 on.
const LONGEST_KEY: usize = 256;

/// What is said of a version, or of a code that stands in its place, which isn't known, or not at this point.
pub(crate) fn unsupported(code: u32) -> ProtocolViolation {
    ProtocolViolation(format!(
        "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{MINOR}",
        code >> 16,
        code & 0xffff
    ))
}

impl Startup {
    /// The longest StartupMessage that PostgreSQL accepts (`MAX_STARTUP_PACKET_LENGTH`).
    pub(crate) const LIMIT: usize = 10_000;

    /// The StartupMessage that a session is opened with.
    pub(crate) fn packet(application_name: &str) -> Bytes {
        let mut packet = BytesMut::new();
        packet.put_u32(0);
        packet.put_u32(PROTOCOL_3_0);
        for text in ["application_name", application_name, ""] {
            packet.put_slice(text.as_bytes());
            packet.put_u8(0);
        }
        let length = u32::try_from(packet.len()).expect("a name that came in a packet is short");
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet.freeze()
    }

    /// Takes the next whole startup packet off the buffer.
    pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolViolation> {
        let &[a, b, c, d, ..] = &buffer[..] else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(8..=Self::LIMIT).contains(&length) {
            return Err(ProtocolViolation(
                "invalid length of startup packet".to_owned(),
            ));
        }
        if buffer.len() < length {
            return Ok(None);
        }
        let mut packet = buffer.split_to(length).freeze().slice(4..);
        let code = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        let _code = packet.split_to(4);
        match code {
            SSL_REQUEST_CODE | GSSENC_REQUEST_CODE => Ok(Some(Self::Encryption(code))),
            CANCEL_REQUEST_CODE if (8..=4 + LONGEST_KEY).contains(&packet.len()) => {
                Ok(Some(Self::Cancel {
                    process_id: i32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]),
                    secret_key: packet.slice(4..),
                }))
            }
            _ if code >> 16 == 3 => {
                let mut fields = Fields::new(packet);
                let mut parameters = Vec::new();
                while let Some(name) = fields.string().filter(|name| !name.is_empty()) {
                    let value = fields.string().unwrap_or_default();
                    parameters.push((
                        String::from_utf8_lossy(&name).into_owned(),
                        String::from_utf8_lossy(&value).into_owned(),
                    ));
                }
                Ok(Some(Self::Session {
                    minor: u16::try_from(code & 0xffff).unwrap_or(u16::MAX),
                    parameters,
                }))
            }
            _ => Ok(Some(Self::Unsupported(code))),
        }
    }
}
