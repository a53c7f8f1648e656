//! Login by a link in a mail, with sessions in the database, a cookie, and a middleware that guards what needs a login.
//!
//! ```text
//! psql "$DATABASE_URL" -f examples/login/schema.sql -c "INSERT INTO accounts (email) VALUES ('alice@example.com')"
//! cargo run --example login
//! curl -d email=alice@example.com http://127.0.0.1:8080/login
//! ```

#[cfg(test)]
mod live;
#[path = "../parts/mod.rs"]
mod parts;

use std::error::Error;
use std::net::TcpListener;

use actix_web::body::MessageBody;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::error::ErrorUnauthorized;
use actix_web::http::header::LOCATION;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, web};
use deadpool_postgres::Pool;
use parts::Failed;
use serde::Deserialize;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = parts::pool(&parts::database_url()?)?;
    run(parts::listener()?, pool)?.await?;
    Ok(())
}

fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .route("/login", web::post().to(ask))
            .route("/login/{code}", web::get().to(enter))
            .service(
                web::scope("")
                    .wrap(from_fn(signed_in))
                    .route("/me", web::get().to(me))
                    .route("/logout", web::post().to(leave)),
            )
    });
    Ok(server.listen(listener)?.run())
}

#[derive(Deserialize)]
struct Ask {
    email: String,
}

/// Mails a link to whoever has an account. The answer doesn't tell who has one.
async fn ask(pool: web::Data<Pool>, form: web::Form<Ask>) -> Result<HttpResponse, Failed> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let insert =
        "INSERT INTO codes (account) SELECT id FROM accounts WHERE email = $1 RETURNING code";
    if let Some(row) = transaction.query_opt(insert, &[&form.email]).await? {
        let link = format!("/login/{}", row.get::<_, &str>("code"));
        let insert = "INSERT INTO mails (recipient, body) VALUES ($1, $2)";
        transaction.execute(insert, &[&form.email, &link]).await?;
    }
    transaction.commit().await?;
    Ok(HttpResponse::Accepted().body("look into your mail"))
}

/// A link works once, and for 15 minutes.
async fn enter(pool: web::Data<Pool>, code: web::Path<String>) -> actix_web::Result<HttpResponse> {
    let Some(token) = exchange(&pool, &code).await? else {
        return Err(ErrorUnauthorized("this link has been used, or is too old"));
    };
    let cookie = Cookie::build(COOKIE, token)
        .path("/")
        .http_only(true)
        .secure(true)
        .same_site(SameSite::Lax)
        .max_age(Duration::days(14))
        .finish();
    Ok(HttpResponse::SeeOther()
        .insert_header((LOCATION, "/me"))
        .cookie(cookie)
        .finish())
}

/// Takes a code and gives a session's token for it.
async fn exchange(pool: &Pool, code: &str) -> Result<Option<String>, Failed> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let delete = "DELETE FROM codes WHERE code = $1 RETURNING account, made_at > now() - interval '15 minutes' AS good";
    let token = match transaction.query_opt(delete, &[&code]).await? {
        Some(row) if row.get("good") => {
            let insert = "INSERT INTO sessions (account) VALUES ($1) RETURNING token";
            let account: i32 = row.get("account");
            let row = transaction.query_one(insert, &[&account]).await?;
            Some(row.get("token"))
        }
        _ => None,
    };
    transaction.commit().await?;
    Ok(token)
}

async fn me(account: web::ReqData<Account>) -> String {
    account.email.clone()
}

async fn leave(pool: web::Data<Pool>, request: HttpRequest) -> Result<HttpResponse, Failed> {
    let mut response = HttpResponse::NoContent().finish();
    if let Some(cookie) = request.cookie(COOKIE) {
        let delete = "DELETE FROM sessions WHERE token = $1";
        let client = pool.get().await?;
        client.execute(delete, &[&cookie.value()]).await?;
        response.add_removal_cookie(&Cookie::build(COOKIE, "").path("/").finish())?;
    }
    Ok(response)
}

/// Whose session it is: found by [`signed_in`].
#[derive(Clone)]
struct Account {
    email: String,
}

/// Middleware: lets only those through who bring the cookie of a session, and tells the handler who that is.
async fn signed_in(
    pool: web::Data<Pool>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    let account = match request.cookie(COOKIE) {
        Some(cookie) => account(&pool, cookie.value()).await?,
        None => None,
    };
    let account = account.ok_or_else(|| ErrorUnauthorized("log in first"))?;
    request.extensions_mut().insert(account);
    next.call(request).await
}

async fn account(pool: &Pool, token: &str) -> Result<Option<Account>, Failed> {
    let client = pool.get().await?;
    let select = client
        .prepare_cached(
            "SELECT email FROM accounts JOIN sessions ON account = id \
             WHERE token = $1 AND made_at > now() - interval '14 days'",
        )
        .await?;
    let row = client.query_opt(&select, &[&token]).await?;
    Ok(row.map(|row| Account {
        email: row.get("email"),
    }))
}

const COOKIE: &str = "session";
