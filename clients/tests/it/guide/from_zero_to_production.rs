//! The first application of the book.

use std::net::TcpListener;

use actix_shareddb::{
    DatabaseUrls, Error, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server,
};
use actix_web::dev::Server;

mod zero2prod {
    use std::net::TcpListener;

    use actix_web::dev::Server;
    use actix_web::{App, HttpResponse, HttpServer, web};
    use serde::Deserialize;
    use sqlx::PgPool;

    pub(super) fn run(listener: TcpListener, db_pool: PgPool) -> Result<Server, std::io::Error> {
        let db_pool = web::Data::new(db_pool);
        let server = HttpServer::new(move || {
            App::new()
                .route("/subscriptions", web::post().to(subscribe))
                .app_data(db_pool.clone())
        })
        .listen(listener)?
        .run();
        Ok(server)
    }

    #[derive(Deserialize)]
    struct FormData {
        email: String,
        name: String,
    }

    async fn subscribe(form: web::Form<FormData>, pool: web::Data<PgPool>) -> HttpResponse {
        let insert =
            "INSERT INTO subscriptions (email, name, subscribed_at) VALUES ($1, $2, now())";
        let insert = sqlx::query(insert).bind(&form.email).bind(&form.name);
        match insert.execute(pool.get_ref()).await {
            Ok(_) => HttpResponse::Ok().finish(),
            Err(_) => HttpResponse::InternalServerError().finish(),
        }
    }
}

#[derive(Default)]
struct TestApp {
    db_pool: Option<sqlx::PgPool>,
}

impl LiveServerTestCase for TestApp {
    fn schema() -> Schema {
        Schema::dir("migrations")
    }

    fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
        let pool = sqlx::PgPool::connect_lazy(&urls.database_url()?);
        self.db_pool = Some(pool.map_err(Error::other)?);
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, _: Pool) -> Result<Server> {
        let pool = self.db_pool.clone().expect("`connect` has made it");
        Ok(zero2prod::run(listener, pool)?)
    }
}

live_server! {
    impl TestApp {
        async fn subscribe_returns_a_200_for_valid_form_data(&mut self, live: &LiveServer) -> Result<()> {
            let form = [("name", "le guin"), ("email", "ursula_le_guin@gmail.com")];
            let response = live.post("/subscriptions").send_form(&form).await?;

            assert_eq!(response.status(), 200);
            let client = live.pool().get().await?;
            let saved = client.query_one("SELECT email, name FROM subscriptions", &[]).await?;
            assert_eq!(saved.get::<_, &str>("email"), "ursula_le_guin@gmail.com");
            Ok(())
        }
    }
}
