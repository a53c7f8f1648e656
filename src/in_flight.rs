//! Counts the HTTP requests that a client has sent and that weren't answered yet.
//!
//! An actix server can be asked to stop gracefully, but it looks only once a second whether its connections are closed,
//! and it can't be hurried then. Which of its handlers still run it tells nobody, whereas the test's client knows.

use std::rc::Rc;

use actix_web::dev::{Service, forward_ready};
use awc::error::SendRequestError;
use awc::middleware::Transform;
use awc::{ConnectRequest, ConnectResponse};
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

/// The number of requests in flight, and the middleware of `awc` that keeps it.
#[derive(Clone, Debug)]
pub(crate) struct InFlight(Rc<watch::Sender<usize>>);

impl InFlight {
    pub(crate) fn new() -> Self {
        Self(Rc::new(watch::Sender::new(0)))
    }

    /// Waits until every request was answered or given up.
    pub(crate) async fn none(&self) {
        self.0
            .subscribe()
            .wait_for(|&count| count == 0)
            .await
            .expect("the sender is borrowed, so it is there");
    }

    fn enter(&self) -> Entered {
        self.0.send_modify(|count| *count += 1);
        Entered(self.clone())
    }
}

/// One request in flight.
struct Entered(InFlight);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
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
        let response = self.service.call(request);
        Box::pin(async move {
            let _entered = entered;
            response.await
        })
    }
}
