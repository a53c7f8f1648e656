//! Plain question and answer on a backend that no session uses.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Backend;
use crate::error::{Error, Result};
use crate::mux::message::{Message, backend, frontend};

/// How many bytes are read at once, at least. All answers between two tests are fewer.
const READ: usize = 4096;

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

    /// How many commands have been completed.
    pub(crate) fn completed(&self) -> usize {
        let tags = self.messages.iter().map(Message::tag);
        tags.filter(|&tag| tag == backend::COMMAND_COMPLETE).count()
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
    /// Sends messages in one write, and reads all answers that are owed then.
    pub(crate) async fn exchange(&mut self, messages: &[Message]) -> Result<Vec<Answer>> {
        self.send(messages).await?;
        self.receive_all().await
    }

    /// Sends messages in one write. The backend owes an answer for each Query and Sync among them.
    pub(crate) async fn send(&mut self, messages: &[Message]) -> Result<()> {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.extend_from_slice(message.frame());
            let is_answered = matches!(message.tag(), frontend::QUERY | frontend::SYNC);
            self.owed += usize::from(is_answered);
        }
        self.stream.write_all(&bytes).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// Reads the next answers of those that are owed.
    pub(crate) async fn receive(&mut self, awaited: usize) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(awaited);
        let mut answer = Answer::default();
        while answers.len() < awaited {
            let Some(message) = Message::take_backend(&mut self.unread)
                .map_err(|violation| Error::new(violation.to_string()))?
            else {
                self.unread.reserve(READ);
                let read = self.stream.read_buf(&mut self.unread).await;
                if read.map_err(broken)? == 0 {
                    return Err(broken(io::ErrorKind::UnexpectedEof.into()));
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
                    self.owed -= 1;
                    answer.status = status;
                    answers.push(std::mem::take(&mut answer));
                }
                _ => answer.messages.push(message),
            }
        }
        Ok(answers)
    }

    /// Reads all answers that are owed.
    pub(crate) async fn receive_all(&mut self) -> Result<Vec<Answer>> {
        self.receive(self.owed).await
    }

    /// Whether the backend has nothing to say, as one that lives and was asked for nothing. It isn't waited for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.owed == 0 && self.unread.is_empty() && self.stream.is_quiet()
    }

    fn set_parameter(&mut self, name: &str, value: &str) {
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
    }
}

fn broken(error: io::Error) -> Error {
    Error::new("the connection to PostgreSQL broke while no test used it").because(error)
}
