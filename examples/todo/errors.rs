//! What a handler answers when it can't do what it was asked for: a status, and a JSON body that says why.

use std::fmt;

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use deadpool_postgres::PoolError;
use serde_json::json;

#[derive(Debug)]
pub(crate) enum ApiError {
    /// 404: there is no such thing.
    NotFound(&'static str),
    /// 422: the JSON is fine, but not what this field says.
    Invalid {
        field: &'static str,
        problem: &'static str,
    },
    /// 409: it was fine, but not any more or not yet.
    Conflict {
        field: &'static str,
        problem: &'static str,
    },
    /// 400: not the JSON, path or query string that was asked for.
    Malformed(String),
    /// 503: no database client was free in time. Try again.
    Busy(PoolError),
    /// 500: our fault. The client is not told what it was.
    Database(tokio_postgres::Error),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(thing) => write!(f, "no such {thing}"),
            Self::Invalid { field, problem } | Self::Conflict { field, problem } => {
                write!(f, "{field} {problem}")
            }
            Self::Malformed(problem) => f.write_str(problem),
            Self::Busy(_) => f.write_str("the server is busy, try again"),
            Self::Database(_) => f.write_str("internal error"),
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        let body = match self {
            Self::Invalid { field, .. } | Self::Conflict { field, .. } => {
                json!({ "error": self.to_string(), "field": field })
            }
            _ => json!({ "error": self.to_string() }),
        };
        HttpResponse::build(self.status_code()).json(body)
    }
}

impl ApiError {
    /// Tells the operator what the client is not told.
    #[expect(clippy::print_stderr, reason = "a program's place for its errors")]
    fn log(&self) {
        match self {
            Self::Busy(error) => eprintln!("todo: no database client: {error}"),
            Self::Database(error) => eprintln!("todo: {error:?}"),
            _ => (),
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Database(error),
            other => Self::Busy(other),
        }
    }
}

impl From<tokio_postgres::Error> for ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// The name of the constraint that the statement broke: the schema's own word for what is wrong.
pub(crate) fn constraint(error: &tokio_postgres::Error) -> Option<&str> {
    error.as_db_error()?.constraint()
}

pub(crate) fn malformed_body(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    ApiError::Malformed(error.to_string()).into()
}

pub(crate) fn malformed_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    ApiError::Malformed(error.to_string()).into()
}

/// A path with an id that is no number leads nowhere.
pub(crate) fn malformed_path(_: PathError, _: &HttpRequest) -> actix_web::Error {
    ApiError::NotFound("page").into()
}
