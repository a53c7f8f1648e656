//! Middleware that gives every HTTP request a name, by which its response and its log lines can be found again.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers with the `X-Request-Id` that the client or a proxy has sent, or with a number of our own.
pub(crate) async fn request_id(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = match request.headers().get(X_REQUEST_ID) {
        Some(id) => id.clone(),
        None => HeaderValue::from(NEXT.fetch_add(1, Ordering::Relaxed)),
    };
    let mut response = next.call(request).await?;
    response.headers_mut().insert(X_REQUEST_ID, id);
    Ok(response)
}
