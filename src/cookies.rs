//! A jar of cookies for a client of the test, which sends back what it was given, as a browser does.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::RequestHeadType;
use actix_web::dev::{Service, forward_ready};
use actix_web::http::Uri;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use awc::error::SendRequestError;
use awc::middleware::Transform;
use awc::{ConnectRequest, ConnectResponse};
use cookie_store::CookieStore;
use futures_util::future::LocalBoxFuture;
use url::Url;

/// The cookies of one user, and the middleware of `awc` that keeps them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(Rc<RefCell<CookieStore>>);

impl Jar {
    /// The value of a Cookie header: what the test has written itself, and behind it what else the jar has for this URL.
    fn header(&self, url: &Url, written: Option<&HeaderValue>) -> Option<HeaderValue> {
        let written = written.and_then(|value| value.to_str().ok());
        let is_written = |name: &str| {
            let pairs = written.into_iter().flat_map(|written| written.split(';'));
            pairs
                .filter_map(|pair| pair.split_once('='))
                .any(|(written, _)| written.trim() == name)
        };
        let jar = self.0.borrow();
        let kept = jar
            .get_request_values(url)
            .filter(|(name, _)| !is_written(name))
            .map(|(name, value)| format!("{name}={value}"));
        let all: Vec<_> = written.map(str::to_owned).into_iter().chain(kept).collect();
        if all.is_empty() {
            return None;
        }
        HeaderValue::from_str(&all.join("; ")).ok()
    }

    /// Takes what a response gives. What a browser would not take, such as a cookie for another domain, isn't taken.
    fn keep(&self, url: &Url, headers: &HeaderMap) {
        let mut jar = self.0.borrow_mut();
        for cookie in headers.get_all(SET_COOKIE) {
            if let Ok(cookie) = cookie.to_str() {
                let _ = jar.parse(cookie, url);
            }
        }
    }
}

/// Whose cookies these are. Those of a WebSocket are those of the page that opens it.
fn url(uri: &Uri) -> Option<Url> {
    let scheme = match uri.scheme_str() {
        Some("https" | "wss") => "https",
        _ => "http",
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Url::parse(&format!("{scheme}://{}{path}", uri.authority()?)).ok()
}

impl<S> Transform<S, ConnectRequest> for Jar
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = WithJar<S>;

    fn new_transform(self, service: S) -> Self::Transform {
        WithJar { service, jar: self }
    }
}

/// A connector whose requests bring what is in the jar, and whose responses fill it.
pub(crate) struct WithJar<S> {
    service: S,
    jar: Jar,
}

impl<S> Service<ConnectRequest> for WithJar<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<ConnectResponse, SendRequestError>>;

    forward_ready!(service);

    fn call(&self, mut request: ConnectRequest) -> Self::Future {
        let url = match &request {
            ConnectRequest::Client(head, ..) => url(&head.as_ref().uri),
            ConnectRequest::Tunnel(head, _) => url(&head.uri),
        };
        if let Some(url) = &url {
            self.send_along(url, &mut request);
        }
        let jar = self.jar.clone();
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await?;
            if let Some(url) = &url {
                match &response {
                    ConnectResponse::Client(response) => jar.keep(url, response.headers()),
                    ConnectResponse::Tunnel(head, _) => jar.keep(url, head.headers()),
                }
            }
            Ok(response)
        })
    }
}

impl<S> WithJar<S> {
    fn send_along(&self, url: &Url, request: &mut ConnectRequest) {
        let (first, headers) = match request {
            ConnectRequest::Client(RequestHeadType::Owned(head), ..)
            | ConnectRequest::Tunnel(head, _) => (None, &mut head.headers),
            // A frozen request's headers of this one time stand beside those of all times, and win over them.
            ConnectRequest::Client(RequestHeadType::Rc(head, extra), ..) => (
                head.headers.get(COOKIE).cloned(),
                extra.get_or_insert_with(HeaderMap::new),
            ),
        };
        let written = headers.get(COOKIE).cloned().or(first);
        if let Some(value) = self.jar.header(url, written.as_ref()) {
            headers.insert(COOKIE, value);
        }
    }
}
