//! A jar of cookies for a client of the test, which sends back what it was given, as a browser does.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::RequestHeadType;
use actix_web::http::Uri;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use awc::{ConnectRequest, ConnectResponse};
use cookie_store::CookieStore;
use url::Url;

use crate::middleware::{Around, Outcome};

/// The cookies of one user.
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

impl Around for Jar {
    /// Where the request goes.
    type Context = Option<Url>;

    fn before(&self, request: &mut ConnectRequest) -> Option<Url> {
        let url = match request {
            ConnectRequest::Client(head, ..) => url(&head.as_ref().uri),
            ConnectRequest::Tunnel(head, _) => url(&head.uri),
        };
        if let Some(url) = &url {
            self.send_along(url, request);
        }
        url
    }

    fn after(&self, url: Option<Url>, outcome: Outcome) -> Outcome {
        if let (Some(url), Ok(response)) = (&url, &outcome) {
            match response {
                ConnectResponse::Client(response) => self.keep(url, response.headers()),
                ConnectResponse::Tunnel(head, _) => self.keep(url, head.headers()),
            }
        }
        outcome
    }
}

impl Jar {
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
        if let Some(value) = self.header(url, written.as_ref()) {
            headers.insert(COOKIE, value);
        }
    }
}
