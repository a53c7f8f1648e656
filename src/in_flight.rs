//! Sees the HTTP requests that a client sends: counts those that weren't answered yet, and writes all of them down.
//!
//! An actix server can be asked to stop gracefully, but it looks only once a second whether its connections are closed,
//! and it can't be hurried then. Which of its handlers still run it tells nobody, whereas the test's client knows.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use actix_web::HttpMessage as _;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{Method, Uri};
use actix_web::web::Bytes;
use awc::{ConnectRequest, ConnectResponse};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::watch;

use crate::exchange::{Awaited, Exchanges, Open};
use crate::middleware::{Around, Outcome};

/// The number of requests in flight, which is kept around each.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    count: Rc<watch::Sender<usize>>,
    exchanges: Exchanges,
}

impl InFlight {
    pub(crate) fn new(exchanges: Exchanges) -> Self {
        Self {
            count: Rc::new(watch::Sender::new(0)),
            exchanges,
        }
    }

    /// Waits until every request was answered or given up.
    pub(crate) async fn none(&self) {
        self.count
            .subscribe()
            .wait_for(|&count| count == 0)
            .await
            .expect("the sender is borrowed, so it is there");
    }

    fn enter(&self) -> Entered {
        self.count.send_modify(|count| *count += 1);
        Entered(Rc::clone(&self.count))
    }
}

type BoxedPayloadStream = Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>;

/// One request in flight.
pub(crate) struct Entered(Rc<watch::Sender<usize>>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Around for InFlight {
    type Context = (Entered, Awaited);

    fn before(&self, request: &mut ConnectRequest) -> Self::Context {
        let (method, path) = head(request);
        (self.enter(), self.exchanges.begin(method, path))
    }

    fn after(&self, (_entered, exchange): Self::Context, outcome: Outcome) -> Outcome {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                exchange.failed(&error);
                return Err(error);
            }
        };
        Ok(match response {
            ConnectResponse::Client(response) => {
                response.extensions_mut().insert(exchange.number());
                let open = exchange.answered(response.status());
                let response =
                    response.map_body(|_, payload| Payload::from(watched(payload, open)));
                ConnectResponse::Client(response)
            }
            ConnectResponse::Tunnel(head, framed) => {
                drop(exchange.answered(head.status));
                ConnectResponse::Tunnel(head, framed)
            }
        })
    }
}

/// The body of a response, which is written down as it is read.
fn watched(mut payload: Payload, open: Open) -> BoxedPayloadStream {
    // What has come with the head is seen even if the test doesn't read it.
    let mut first = payload.next().now_or_never();
    if let Some(Some(Ok(chunk))) = &first {
        open.note(chunk);
    }
    let mut is_noted = first.is_some();
    let mut open = Some(open);
    Box::pin(stream::poll_fn(move |context| {
        let chunk = match first.take() {
            Some(chunk) => chunk,
            None => ready!(payload.poll_next_unpin(context)),
        };
        match (&chunk, &open) {
            (None, _) => open = None,
            (Some(Ok(chunk)), Some(open)) if !is_noted => open.note(chunk),
            _ => {}
        }
        is_noted = false;
        Poll::Ready(chunk)
    }))
}

/// What the request line says.
fn head(request: &ConnectRequest) -> (Method, String) {
    let path = |uri: &Uri| {
        uri.path_and_query()
            .map_or_else(String::new, ToString::to_string)
    };
    let head = match request {
        ConnectRequest::Client(head, ..) => head.as_ref(),
        ConnectRequest::Tunnel(head, _) => head,
    };
    (head.method.clone(), path(&head.uri))
}
