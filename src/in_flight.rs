//! Sees the HTTP requests that a client sends: counts those that weren't answered yet, and writes all of them down.
//!
//! An actix server can be asked to stop gracefully, but it looks only once a second whether its connections are closed,
//! and it can't be hurried then. Which of its handlers still run it tells nobody, whereas the test's client knows.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use actix_web::HttpMessage as _;
use actix_web::dev::{Payload, Service, forward_ready};
use actix_web::error::PayloadError;
use actix_web::http::{Method, Uri};
use actix_web::web::Bytes;
use awc::error::SendRequestError;
use awc::middleware::Transform;
use awc::{ConnectRequest, ConnectResponse};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::watch;

use crate::exchange::{Exchanges, Open};

/// The number of requests in flight, and the middleware of `awc` that keeps it.
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
struct Entered(Rc<watch::Sender<usize>>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<S> Transform<S, ConnectRequest> for InFlight
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = Counted<S>;

    fn new_transform(self, service: S) -> Self::Transform {
        Counted {
            service,
            in_flight: self,
        }
    }
}

/// A connector whose requests are counted from the call to the head of the response.
pub(crate) struct Counted<S> {
    service: S,
    in_flight: InFlight,
}

impl<S> Service<ConnectRequest> for Counted<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<ConnectResponse, SendRequestError>>;

    forward_ready!(service);

    fn call(&self, request: ConnectRequest) -> Self::Future {
        let entered = self.in_flight.enter();
        let (method, path) = head(&request);
        let exchange = self.in_flight.exchanges.begin(method, path);
        let response = self.service.call(request);
        Box::pin(async move {
            let _entered = entered;
            let response = match response.await {
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
