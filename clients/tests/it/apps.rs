//! Applications whose pool isn't deadpool's: they join by the URL that the case has before they start, and share the
//! transaction with each other's requests and with the test.

use std::net::TcpListener;

use actix_shareddb::{
    DatabaseUrls, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server,
};
use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::try_join_all;

/// What an application of this kind does with its pool.
trait Store: Clone + Send + Sync + 'static {
    /// Opens no connection yet.
    fn new(url: &str) -> Self;

    /// Adds two values in one transaction, or neither; false if one of them is there already.
    async fn add(&self, one: &str, two: &str) -> bool;

    async fn list(&self) -> Vec<String>;
}

struct With<S> {
    store: Option<S>,
}

impl<S> Default for With<S> {
    fn default() -> Self {
        Self { store: None }
    }
}

impl<S: Store> LiveServerTestCase for With<S> {
    fn schema() -> Schema {
        Schema::sql("CREATE TABLE t (id serial PRIMARY KEY, v text NOT NULL UNIQUE)")
    }

    fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
        self.store = Some(S::new(&urls.database_url()?));
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, _: Pool) -> Result<Server> {
        let store = web::Data::new(self.store.clone().expect("`connect` has made it"));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(store.clone())
                .route("/{one}/{two}", web::post().to(add::<S>))
                .route("/", web::get().to(list::<S>))
        });
        Ok(server.listen(listener)?.run())
    }
}

async fn add<S: Store>(store: web::Data<S>, values: web::Path<(String, String)>) -> HttpResponse {
    match store.add(&values.0, &values.1).await {
        true => HttpResponse::Created().finish(),
        false => HttpResponse::Conflict().finish(),
    }
}

async fn list<S: Store>(store: web::Data<S>) -> String {
    store.list().await.join(" ")
}

async fn scenario(live: &LiveServer) -> Result<()> {
    assert_eq!(live.post("/milk/bread").send().await?.status(), 201);
    // The first of the two is undone with the second.
    assert_eq!(live.post("/salt/milk").send().await?.status(), 409);
    assert_eq!(live.get("/").send().await?.body().await?, "bread milk");

    let client = live.pool().get().await?;
    let rows = client.query("SELECT v FROM t ORDER BY id", &[]).await?;
    let values: Vec<&str> = rows.iter().map(|row| row.get("v")).collect();
    assert_eq!(values, ["milk", "bread"]);
    client
        .execute("DELETE FROM t WHERE v = 'bread'", &[])
        .await?;

    // More at once than the pools have connections.
    let paths: Vec<_> = (0..12)
        .map(|number| format!("/{number}a/{number}b"))
        .collect();
    let sent = paths.iter().map(|path| live.post(path).send());
    for response in try_join_all(sent).await? {
        assert_eq!(response.status(), 201);
    }
    let listed = live.get("/").send().await?.body().await?;
    assert_eq!(listed.split(|&byte| byte == b' ').count(), 25);
    Ok(())
}

live_server! {
    impl With<Sqlx> {
        async fn an_application_on_sqlx_joins(&mut self, live: &LiveServer) -> Result<()> {
            scenario(live).await
        }

        #[isolation(Database)]
        async fn an_application_on_sqlx_has_a_database_of_its_own(&mut self, live: &LiveServer) -> Result<()> {
            scenario(live).await
        }
    }

    impl With<Bb8> {
        async fn an_application_on_bb8_joins(&mut self, live: &LiveServer) -> Result<()> {
            scenario(live).await
        }
    }

    impl With<Diesel> {
        async fn an_application_on_diesel_joins(&mut self, live: &LiveServer) -> Result<()> {
            scenario(live).await
        }
    }
}

#[derive(Clone)]
struct Sqlx(sqlx::PgPool);

impl Store for Sqlx {
    fn new(url: &str) -> Self {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(3);
        Self(options.connect_lazy(url).unwrap())
    }

    async fn add(&self, one: &str, two: &str) -> bool {
        let mut transaction = self.0.begin().await.unwrap();
        for value in [one, two] {
            let insert = sqlx::query("INSERT INTO t (v) VALUES ($1)").bind(value);
            match insert.execute(&mut *transaction).await {
                Ok(_) => {}
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return false,
                Err(error) => panic!("{error}"),
            }
        }
        transaction.commit().await.unwrap();
        true
    }

    async fn list(&self) -> Vec<String> {
        let select = sqlx::query_scalar("SELECT v FROM t ORDER BY v");
        select.fetch_all(&self.0).await.unwrap()
    }
}

#[derive(Clone)]
struct Bb8(bb8::Pool<bb8_postgres::PostgresConnectionManager<tokio_postgres::NoTls>>);

impl Store for Bb8 {
    fn new(url: &str) -> Self {
        let config = url.parse().unwrap();
        let manager = bb8_postgres::PostgresConnectionManager::new(config, tokio_postgres::NoTls);
        Self(bb8::Pool::builder().max_size(3).build_unchecked(manager))
    }

    async fn add(&self, one: &str, two: &str) -> bool {
        let mut client = self.0.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        for value in [one, two] {
            let insert = "INSERT INTO t (v) VALUES ($1)";
            match transaction.execute(insert, &[&value]).await {
                Ok(_) => {}
                Err(error) if is_unique_violation(&error) => return false,
                Err(error) => panic!("{error}"),
            }
        }
        transaction.commit().await.unwrap();
        true
    }

    async fn list(&self) -> Vec<String> {
        let client = self.0.get().await.unwrap();
        let rows = client.query("SELECT v FROM t ORDER BY v", &[]).await;
        rows.unwrap().iter().map(|row| row.get("v")).collect()
    }
}

fn is_unique_violation(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
}

#[derive(Clone)]
struct Diesel(diesel_async::pooled_connection::deadpool::Pool<diesel_async::AsyncPgConnection>);

diesel::table! {
    t (id) {
        id -> Integer,
        v -> Text,
    }
}

impl Store for Diesel {
    fn new(url: &str) -> Self {
        use diesel_async::pooled_connection::{AsyncDieselConnectionManager, deadpool::Pool};

        let manager = AsyncDieselConnectionManager::new(url);
        Self(Pool::builder(manager).max_size(3).build().unwrap())
    }

    async fn add(&self, one: &str, two: &str) -> bool {
        use diesel::ExpressionMethods as _;
        use diesel::result::{DatabaseErrorKind, Error};
        use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

        let mut connection = self.0.get().await.unwrap();
        let added = connection
            .transaction(async |connection| {
                for value in [one, two] {
                    let insert = diesel::insert_into(t::table).values(t::v.eq(value));
                    insert.execute(connection).await?;
                }
                Ok::<_, Error>(())
            })
            .await;
        match added {
            Ok(()) => true,
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn list(&self) -> Vec<String> {
        use diesel::QueryDsl as _;
        use diesel_async::RunQueryDsl as _;

        let mut connection = self.0.get().await.unwrap();
        let select = t::table.select(t::v).order(t::v);
        select.load(&mut connection).await.unwrap()
    }
}
