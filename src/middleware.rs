//! What is done around each HTTP request of a client, as a middleware of `awc`.

use actix_web::dev::{Service, forward_ready};
use awc::error::SendRequestError;
use awc::middleware::Transform;
use awc::{ConnectRequest, ConnectResponse};
use futures_util::future::LocalBoxFuture;

pub(crate) type Outcome = Result<ConnectResponse, SendRequestError>;

/// Something that is done before a request is sent, and when it is answered.
pub(crate) trait Around: Clone + 'static {
    /// What is kept meanwhile. It is dropped if nobody waits for the answer any more.
    type Context: 'static;

    fn before(&self, request: &mut ConnectRequest) -> Self::Context;

    /// Only the head of the response has come.
    fn after(&self, context: Self::Context, outcome: Outcome) -> Outcome;
}

/// As a client takes it.
pub(crate) struct Middleware<A>(pub(crate) A);

impl<S, A> Transform<S, ConnectRequest> for Middleware<A>
where
    A: Around,
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = Connector<S, A>;

    fn new_transform(self, service: S) -> Self::Transform {
        Connector {
            service,
            around: self.0,
        }
    }
}

/// What a client sends its requests through.
pub(crate) struct Connector<S, A> {
    service: S,
    around: A,
}

impl<S, A> Service<ConnectRequest> for Connector<S, A>
where
    A: Around,
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Outcome>;

    forward_ready!(service);

    fn call(&self, mut request: ConnectRequest) -> Self::Future {
        let around = self.around.clone();
        let context = around.before(&mut request);
        let response = self.service.call(request);
        Box::pin(async move {
            let outcome = response.await;
            around.after(context, outcome)
        })
    }
}
