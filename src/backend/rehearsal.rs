//! Startup parameters, tried on a connection of their own: only the server knows which settings there are, what values they
//! take, and how it writes those.

use bytes::BufMut;
use tokio_postgres::error::DbError;

use super::{Answer, Backend, Canceller, startup};
use crate::mux::message::{Message, backend, to_backend, to_session};

/// What the server made of startup parameters.
#[derive(Debug)]
pub(crate) struct Rehearsed {
    /// Every `ParameterStatus`.
    pub(crate) parameters: Vec<(String, String)>,
    /// The values of the settings that were asked about, as the server writes them, as far as it tells.
    pub(crate) values: Vec<Option<String>>,
}

impl Canceller {
    /// Connects once more with these options, of which the client's own come first, and asks for the values of the settings.
    ///
    /// # Errors
    ///
    /// What a client that connects in this way is told.
    pub(crate) async fn rehearse(
        &self,
        options: &str,
        settings: &[(String, String)],
    ) -> Result<Rehearsed, Message> {
        let mut config = tokio_postgres::Config::clone(&self.config);
        let mut all = config.get_options().unwrap_or_default().to_owned();
        all.push(' ');
        all.push_str(options);
        for (name, value) in settings {
            if name == "application_name" {
                config.application_name(value);
            } else {
                all.push_str(&format!(" -c {}={}", escaped(name), escaped(value)));
            }
        }
        config.options(all);
        let opened = startup::open(&config, &self.address, &self.encryption).await;
        let mut opened = opened.map_err(|failure| refusal(&*failure.cause))?;
        let values = values(&mut opened, settings).await;
        Ok(Rehearsed {
            parameters: opened.parameters,
            values: values.unwrap_or_else(|| vec![None; settings.len()]),
        })
    }
}

async fn values(
    backend: &mut Backend,
    settings: &[(String, String)],
) -> Option<Vec<Option<String>>> {
    let list: Vec<_> = settings
        .iter()
        .map(|(name, _)| {
            let name = postgres_protocol::escape::escape_literal(name);
            format!("pg_catalog.current_setting({name}, true)")
        })
        .collect();
    let sql = format!("SELECT {}", list.join(", "));
    let answers = backend.exchange(&[to_backend::query(sql.as_bytes())]).await;
    answers.ok()?.first().and_then(Answer::row)
}

/// An option's text: white space ends it unless there is a backslash before.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '\\' || char.is_ascii_whitespace() || char == '\x0b' {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// What a client is told for whom this went wrong.
fn refusal(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> Message {
    let Some(error) = cause.downcast_ref::<DbError>() else {
        let text = format!("the startup parameters could not be checked: {cause}");
        return to_session::Report::fatal("08006", text).message();
    };
    Message::build(backend::ERROR_RESPONSE, |body| {
        let fields = [
            (b'S', Some(error.severity())),
            (b'V', Some("FATAL")),
            (b'C', Some(error.code().code())),
            (b'M', Some(error.message())),
            (b'D', error.detail()),
            (b'H', error.hint()),
        ];
        for (code, value) in fields {
            if let Some(value) = value {
                body.put_u8(code);
                body.put_slice(value.as_bytes());
                body.put_u8(0);
            }
        }
        body.put_u8(0);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_an_option_is_escaped() {
        assert_eq!(escaped("ISO, \\DMY"), "ISO,\\ \\\\DMY");
    }
}
