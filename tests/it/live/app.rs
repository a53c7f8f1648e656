//! The application under test: a route for each thing that a server can do.

use std::convert::Infallible;
use std::future::pending;
use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use actix_shareddb::Pool;
use actix_web::dev::Server;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpServer, Responder, web};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    events: Option<UnboundedSender<String>>,
    meeting: Arc<Barrier>,
    second: Arc<Notify>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            events: None,
            meeting: Arc::new(Barrier::new(2)),
            second: Arc::default(),
        }
    }
}

impl App {
    pub(crate) fn telling(events: &UnboundedSender<String>) -> Self {
        Self {
            events: Some(events.clone()),
            ..Self::default()
        }
    }

    fn tell(&self, event: &str) {
        if let Some(events) = &self.events {
            // Nobody listens when the test has failed.
            let _ = events.send(event.to_owned());
        }
    }
}

/// Tells when it is dropped.
pub(crate) struct OnDrop(UnboundedSender<String>, &'static str);

impl OnDrop {
    pub(crate) fn new(events: &UnboundedSender<String>, event: &'static str) -> Self {
        Self(events.clone(), event)
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(self.1.to_owned());
    }
}

/// The production entry point.
pub(crate) fn run(listener: TcpListener, pool: Pool, app: App) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(Data::new(pool.clone()))
            .app_data(Data::new(app.clone()))
            .route("/one", web::get().to(one))
            .route("/redirect", web::get().to(redirect))
            .route("/panic", web::get().to(panics))
            .route("/meet", web::get().to(meet))
            .route("/stream", web::get().to(streams))
            .route("/stream", web::post().to(stream_on))
            .route("/echo", web::get().to(echo))
            .route("/slow", web::get().to(slow))
            .route("/stuck", web::get().to(stuck))
            .route("/method", web::to(method))
    });
    Ok(server.workers(2).listen(listener)?.run())
}

async fn method(request: HttpRequest) -> String {
    request.method().to_string()
}

async fn one(pool: Data<Pool>) -> String {
    let client = pool.get().await.unwrap();
    let one: i32 = client.query_one("SELECT 1", &[]).await.unwrap().get(0);
    one.to_string()
}

async fn redirect() -> impl Responder {
    web::Redirect::to("/method").see_other()
}

async fn panics() -> HttpResponse {
    panic!("no such list")
}

async fn meet(app: Data<App>) -> String {
    app.meeting.wait();
    format!("{:?}", thread::current().id())
}

async fn streams(app: Data<App>) -> HttpResponse {
    let first = stream::iter([Bytes::from_static(b"first")]);
    let second = stream::once(async move {
        app.second.notified().await;
        Bytes::from_static(b"second")
    });
    HttpResponse::Ok().streaming(first.chain(second).map(Ok::<_, Infallible>))
}

async fn stream_on(app: Data<App>) -> HttpResponse {
    app.second.notify_one();
    HttpResponse::Ok().finish()
}

async fn echo(request: HttpRequest, payload: Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, payload)?;
    actix_web::rt::spawn(async move {
        while let Some(Ok(actix_ws::Message::Text(text))) = messages.next().await {
            session.text(text).await.unwrap();
        }
    });
    Ok(response)
}

async fn slow(app: Data<App>) -> HttpResponse {
    let _dropped = app
        .events
        .as_ref()
        .map(|events| OnDrop::new(events, "dropped"));
    app.tell("entered");
    tokio::time::sleep(Duration::from_millis(50)).await;
    app.tell("finished");
    HttpResponse::Ok().finish()
}

async fn stuck(app: Data<App>) -> HttpResponse {
    let _dropped = app
        .events
        .as_ref()
        .map(|events| OnDrop::new(events, "dropped"));
    app.tell("entered");
    pending().await
}
