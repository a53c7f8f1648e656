//! The site that the guide's page on HTTP sends its requests to.

use std::net::TcpListener;

use actix_shareddb::{LiveServerTestCase, Pool, Result, Schema};
use actix_web::cookie::Cookie;
use actix_web::dev::Server;
use actix_web::http::header::LOCATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default)]
pub struct Site;

impl LiveServerTestCase for Site {
    fn schema() -> Schema {
        Schema::sql(
            "CREATE TABLE friends (name text NOT NULL, friend text NOT NULL);
             CREATE TABLE todos (title text NOT NULL, done boolean NOT NULL DEFAULT false);",
        )
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let pool = web::Data::new(pool);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(pool.clone())
                .route("/", web::get().to(welcome))
                .route("/login", web::post().to(log_in))
                .route("/friends", web::post().to(befriend))
                .route("/friends", web::get().to(friends))
                .route("/photos", web::post().to(upload))
                .route("/todos", web::post().to(create))
                .route("/chat", web::get().to(chat))
        });
        Ok(server.listen(listener)?.run())
    }
}

#[derive(Deserialize)]
struct Person {
    name: String,
}

async fn log_in(person: web::Form<Person>) -> HttpResponse {
    HttpResponse::SeeOther()
        .cookie(Cookie::new("name", &person.name))
        .insert_header((LOCATION, "/"))
        .finish()
}

async fn welcome(request: HttpRequest) -> HttpResponse {
    match user(&request) {
        Some(user) => HttpResponse::Ok().body(format!("<h1>Welcome, {user}</h1>")),
        None => HttpResponse::Unauthorized().finish(),
    }
}

async fn befriend(
    request: HttpRequest,
    pool: web::Data<Pool>,
    person: web::Form<Person>,
) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let insert = "INSERT INTO friends (name, friend) VALUES ($1, $2)";
    client
        .execute(insert, &[&person.name, &user(&request)])
        .await
        .unwrap();
    HttpResponse::Created().finish()
}

async fn friends(request: HttpRequest, pool: web::Data<Pool>) -> String {
    let client = pool.get().await.unwrap();
    let select = "SELECT friend FROM friends WHERE name = $1";
    let rows = client.query(select, &[&user(&request)]).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.get("friend")).collect();
    names.join(" ")
}

fn user(request: &HttpRequest) -> Option<String> {
    Some(request.cookie("name")?.value().to_owned())
}

async fn upload(form: String) -> HttpResponse {
    let expected = ["holiday", "filename=\"sunset.jpg\""];
    match expected.iter().all(|part| form.contains(part)) {
        true => HttpResponse::Created().finish(),
        false => HttpResponse::BadRequest().body(form),
    }
}

async fn create(pool: web::Data<Pool>, todo: web::Json<Value>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let insert = "INSERT INTO todos (title) VALUES ($1) RETURNING title, done";
    let row = client
        .query_one(insert, &[&todo["title"].as_str()])
        .await
        .unwrap();
    let (title, done): (String, bool) = (row.get("title"), row.get("done"));
    HttpResponse::Created().json(json!({ "title": title, "done": done }))
}

async fn chat(request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, body)?;
    actix_web::rt::spawn(async move {
        while let Some(Ok(actix_ws::Message::Text(text))) = messages.recv().await {
            session.text(text).await.unwrap();
        }
    });
    Ok(response)
}
