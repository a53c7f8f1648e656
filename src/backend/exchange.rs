//! Plain question and answer on a backend that no session uses.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Backend;
use crate::error::{Error, Result};
use crate::mux::message::{Message, backend, frontend};

/// What the backend answered to one synchronised message.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<Message>,
    /// The transaction status of its ReadyForQuery.
    pub(crate) status: u8,
}

impl Answer {
    /// The message and SQLSTATE of the answer's ErrorResponse, if it has one.
    pub(crate) fn error(&self) -> Option<String> {
        let error = self
            .messages
            .iter()
            .find(|message| message.tag() == backend::ERROR_RESPONSE)?;
        let field = |code| {
            let value = error.error_field(code).unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        };
        let detail = match field(b'D') {
            detail if detail.is_empty() => String::new(),
            detail => format!(" ({detail})"),
        };
        Some(format!("{}: {}{detail}", field(b'C'), field(b'M')))
    }

    /// The columns of the answer's first row, as text.
    pub(crate) fn row(&self) -> Option<Vec<Option<String>>> {
        let row = self.messages.iter().find(|message| message.tag() == b'D')?;
        let mut body = &row.body()[..];
        let mut take = |length: usize| {
            let (head, tail) = body.split_at_checked(length)?;
            body = tail;
            Some(head.to_vec())
        };
        let columns = u16::from_be_bytes(take(2)?.try_into().ok()?);
        (0..columns)
            .map(|_| {
                let length = i32::from_be_bytes(take(4)?.try_into().ok()?);
                let Ok(length) = usize::try_from(length) else {
                    return Some(None);
                };
                Some(Some(String::from_utf8_lossy(&take(length)?).into_owned()))
            })
            .collect()
    }
}

impl Backend {
    /// Sends messages in one write, and reads an answer for each Query and Sync among them.
    pub(crate) async fn exchange(&mut self, messages: &[Message]) -> Result<Vec<Answer>> {
        let failed = |error: std::io::Error| {
            Error::new("the connection to PostgreSQL broke while no test used it").because(error)
        };
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.extend_from_slice(message.frame());
        }
        self.stream.write_all(&bytes).await.map_err(failed)?;
        bytes.clear();
        let awaited = messages
            .iter()
            .filter(|message| matches!(message.tag(), frontend::QUERY | frontend::SYNC))
            .count();
        let mut answers = Vec::with_capacity(awaited);
        let mut answer = Answer::default();
        while answers.len() < awaited {
            let Some(message) = Message::take_backend(&mut bytes)
                .map_err(|violation| Error::new(violation.to_string()))?
            else {
                if self.stream.read_buf(&mut bytes).await.map_err(failed)? == 0 {
                    return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                }
                continue;
            };
            match (message.tag(), message.transaction_status()) {
                (backend::PARAMETER_STATUS, _) => {
                    let mut fields = message.fields();
                    if let (Some(name), Some(value)) = (fields.string(), fields.string()) {
                        self.set_parameter(
                            &String::from_utf8_lossy(&name),
                            &String::from_utf8_lossy(&value),
                        );
                    }
                }
                (_, Some(status)) => {
                    answer.status = status;
                    answers.push(std::mem::take(&mut answer));
                }
                _ => answer.messages.push(message),
            }
        }
        Ok(answers)
    }

    fn set_parameter(&mut self, name: &str, value: &str) {
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
    }
}
