//! The life of a test that has no harness but its own: a server on a port of its own, and two requests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use actix_web::dev::Server;
use actix_web::rt::System;
use tokio::sync::oneshot;

use crate::application::NOTE;

/// The test itself: one note is written, and it is the only one that can be read.
pub(crate) async fn write_and_read(client: &awc::Client, address: SocketAddr) {
    let url = format!("http://{address}/notes");
    let written = client.post(&url).send_body(NOTE).await.unwrap();
    assert_eq!(written.status(), 201);
    let read = client.get(&url).send().await.unwrap().body().await.unwrap();
    assert_eq!(read, NOTE);
}

/// Serves on a thread of its own, tests, stops at once, and joins the thread.
pub(crate) fn serve_and_test(serve: impl FnOnce(TcpListener) -> Server + Send + 'static) {
    System::new().block_on(async {
        let (listener, address) = listen();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = thread::spawn(move || {
            System::new().block_on(async move {
                let server = serve(listener);
                tokio::select! { _ = server => {}, _ = stopped => {} }
            });
        });
        write_and_read(&awc::Client::default(), address).await;
        drop(stop);
        server.join().unwrap();
    });
}

/// Tests in the current runtime, in which the server is spawned as `#[tokio::test]`s do it.
pub(crate) async fn spawn_and_test(serve: impl FnOnce(TcpListener) -> Server) {
    let (listener, address) = listen();
    let server = tokio::spawn(serve(listener));
    let client = awc::Client::default();
    tokio::task::LocalSet::new()
        .run_until(write_and_read(&client, address))
        .await;
    server.abort();
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
