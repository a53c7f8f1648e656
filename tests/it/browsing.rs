//! What a client does of itself, as a browser does: cookies, redirects.

use std::net::TcpListener;

use actix_multipart_rfc7578::client::multipart::{Body, Form};
use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, live_server};
use actix_web::cookie::{Cookie, time};
use actix_web::dev::Server;
use actix_web::http::header::{COOKIE, LOCATION};
use actix_web::web::{Bytes, Payload, get, post};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder};
use futures_util::StreamExt as _;

fn run(listener: TcpListener) -> std::io::Result<Server> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/login", post().to(login))
            .route("/logout", post().to(logout))
            .route("/cookies", get().to(cookies))
            .route("/admin/cookies", get().to(cookies))
            .route("/socket", get().to(socket))
            .route("/gone/{status}", post().to(redirect))
            .route("/round", get().to(round))
            .route("/here", get().to(here))
            .route("/here", post().to(here))
    });
    Ok(server.workers(1).listen(listener)?.run())
}

async fn login(name: String) -> impl Responder {
    let session = Cookie::build("session", name)
        .path("/")
        .secure(true)
        .http_only(true);
    HttpResponse::Ok()
        .cookie(session.finish())
        .cookie(Cookie::build("theme", "dark").path("/admin").finish())
        .cookie(
            Cookie::build("stale", "1")
                .max_age(time::Duration::ZERO)
                .finish(),
        )
        .cookie(Cookie::build("foreign", "1").domain("example.com").finish())
        .finish()
}

async fn logout() -> impl Responder {
    let mut session = Cookie::build("session", "").path("/").finish();
    session.make_removal();
    HttpResponse::SeeOther()
        .cookie(session)
        .insert_header((LOCATION, "/cookies"))
        .finish()
}

/// The cookies that have come, sorted.
async fn cookies(request: HttpRequest) -> String {
    said(&request)
}

fn said(request: &HttpRequest) -> String {
    let header = request.headers().get(COOKIE);
    let mut cookies: Vec<_> = header
        .iter()
        .flat_map(|header| header.to_str().unwrap().split("; "))
        .collect();
    cookies.sort_unstable();
    cookies.join("; ")
}

async fn socket(request: HttpRequest, body: Payload) -> actix_web::Result<HttpResponse> {
    let (mut response, mut session, _) = actix_ws::handle(&request, body)?;
    response
        .add_cookie(&Cookie::build("socket", "1").path("/").finish())
        .unwrap();
    let said = said(&request);
    actix_web::rt::spawn(async move {
        session.text(said).await.unwrap();
        session.close(None).await.unwrap();
    });
    Ok(response)
}

async fn redirect(request: HttpRequest) -> impl Responder {
    let status: u16 = request.match_info().query("status").parse().unwrap();
    let status = actix_web::http::StatusCode::from_u16(status).unwrap();
    HttpResponse::build(status)
        .insert_header((LOCATION, "/here"))
        .finish()
}

async fn round() -> impl Responder {
    HttpResponse::Found()
        .insert_header((LOCATION, "/round"))
        .finish()
}

async fn here(request: HttpRequest, body: Bytes) -> String {
    format!("{} {}", request.method(), String::from_utf8_lossy(&body))
}

async fn text(request: awc::ClientRequest) -> Result<String> {
    let body = request.send().await?.body().await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[derive(Default)]
struct Browsing;

impl LiveServerTestCase for Browsing {
    async fn serve(&self, listener: TcpListener, _: Pool) -> Result<Server> {
        Ok(run(listener)?)
    }
}

live_server! {
    impl Browsing {
        async fn each_user_has_cookies_of_its_own(&self, live: &LiveServer) -> Result<()> {
            let (alice, bob) = (live.with_cookies(), live.with_cookies());
            alice.post("/login").send_body("alice").await?;
            bob.post("/login").send_body("bob").await?;
            assert_eq!(text(alice.get("/cookies")).await?, "session=alice");
            assert_eq!(text(bob.get("/cookies")).await?, "session=bob");
            assert_eq!(text(live.get("/cookies")).await?, "");
            Ok(())
        }

        async fn cookies_are_kept_by_the_rules_of_a_browser(&self, live: &LiveServer) -> Result<()> {
            let user = live.with_cookies();
            user.post("/login").send_body("alice").await?;
            assert_eq!(text(user.get("/admin/cookies")).await?, "session=alice; theme=dark");
            user.post("/logout").send().await?;
            assert_eq!(text(user.get("/admin/cookies")).await?, "theme=dark");
            Ok(())
        }

        async fn a_cookie_of_the_request_wins(&self, live: &LiveServer) -> Result<()> {
            let user = live.with_cookies();
            user.post("/login").send_body("alice").await?;
            let request = user.get("/cookies").cookie(Cookie::new("session", "mallory")).cookie(Cookie::new("more", "1"));
            assert_eq!(text(request).await?, "more=1; session=mallory");
            assert_eq!(text(user.get("/cookies")).await?, "session=alice");
            Ok(())
        }

        async fn a_request_that_is_sent_again_brings_what_has_come_meanwhile(&self, live: &LiveServer) -> Result<()> {
            let user = live.with_cookies();
            let request = user.get("/cookies").cookie(Cookie::new("own", "1")).freeze().unwrap();
            assert_eq!(request.send().await?.body().await?, "own=1");
            user.post("/login").send_body("alice").await?;
            assert_eq!(request.send().await?.body().await?, "own=1; session=alice");
            Ok(())
        }

        async fn a_websocket_shares_the_cookies(&self, live: &LiveServer) -> Result<()> {
            let user = live.with_cookies();
            user.post("/login").send_body("alice").await?;
            let (_, mut socket) = user.ws("/socket").connect().await?;
            let said = socket.next().await.unwrap().unwrap();
            assert!(matches!(said, awc::ws::Frame::Text(said) if said == "session=alice"));
            assert_eq!(text(user.get("/cookies")).await?, "session=alice; socket=1");
            Ok(())
        }

        async fn a_redirect_is_seen_unless_it_is_to_be_followed(&self, live: &LiveServer) -> Result<()> {
            let user = live.with_cookies();
            user.post("/login").send_body("alice").await?;
            let mut followed = user.with_redirects().post("/logout").send().await?;
            // The cookie was gone by the second hop.
            assert_eq!((followed.status().as_u16(), &followed.body().await?[..]), (200, &b""[..]));
            assert_eq!(user.post("/logout").send().await?.status(), 303);
            Ok(())
        }

        async fn what_is_followed_keeps_its_method_where_it_should(&self, live: &LiveServer) -> Result<()> {
            let live = live.with_redirects();
            for (status, expected) in [(301, "GET "), (302, "GET "), (303, "GET "), (307, "POST body"), (308, "POST body")] {
                let mut response = live.post(&format!("/gone/{status}")).send_body("body").await?;
                assert_eq!(response.body().await?, expected, "{status}");
            }
            assert_eq!(live.get("/round").send().await?.status(), 302);
            Ok(())
        }

        async fn a_form_with_a_file_is_for_a_crate_of_its_own(&self, live: &LiveServer) -> Result<()> {
            let mut form = Form::default();
            form.add_text("title", "holiday");
            form.add_reader_file("photo", std::io::Cursor::new("a sunset"), "sunset.jpg");
            let request = live.post("/here").content_type(form.content_type());
            let mut response = request.send_body(Body::from(form)).await?;
            let body = String::from_utf8(response.body().await?.to_vec()).unwrap();
            assert!(body.contains("name=\"title\"\r\n"), "{body}");
            assert!(body.contains("filename=\"sunset.jpg\"") && body.contains("\r\na sunset\r\n"), "{body}");
            Ok(())
        }

        async fn every_handle_is_on_the_same_transaction(&self, live: &LiveServer) -> Result<()> {
            let other = live.with_cookies().with_redirects();
            other.pool().get().await?.batch_execute("CREATE TABLE seen ()").await?;
            live.pool().get().await?.batch_execute("SELECT FROM seen").await?;
            assert_eq!(other.addr(), live.addr());
            other.get("/here").send().await?;
            assert_eq!(live.queries().len(), 2);
            Ok(())
        }
    }
}
