//! What a test is shown of the statements that were run.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix_shareddb::{
    Config, DatabaseUrls, LiveServer, LiveServerTestCase, Pool, Result, Schema, SharedTransaction,
    assert_num_queries, live_server,
};
use actix_web::dev::Server;
use actix_web::web::{Data, get};
use actix_web::{App, HttpResponse, HttpServer};
use deadpool_postgres::Client;
use futures_util::future::join;
use tokio::sync::Barrier;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use crate::stage::Database;

/// The text with all times taken out of it.
pub(crate) fn without_times(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for index in 1..words.len() {
        let is_unit =
            words[index].trim_end_matches(['\n', ',']) == "ms" || words[index].starts_with("ms\n");
        if is_unit && words[index - 1].parse::<f64>().is_ok() {
            words[index - 1] = "_";
        }
    }
    words.join(" ")
}

fn schema() -> Schema {
    Schema::sql(
        "CREATE TABLE list (id int PRIMARY KEY, name text UNIQUE); \
         CREATE TABLE item (list int REFERENCES list DEFERRABLE INITIALLY DEFERRED, title text); \
         CREATE TYPE mood AS ENUM ('sad', 'happy');",
    )
}

#[derive(Default)]
pub(crate) struct Lists;

impl LiveServerTestCase for Lists {
    fn schema() -> Schema {
        schema()
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let meeting = Arc::new(Barrier::new(2));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(pool.clone()))
                .app_data(Data::from(Arc::clone(&meeting)))
                .route("/lists", get().to(lists))
                .route("/new", get().to(new))
                .route("/taken", get().to(taken))
                .route("/meet", get().to(meet))
                .route("/broken", get().to(broken))
                .route("/none", get().to(HttpResponse::NoContent))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

async fn client(pool: &Pool) -> Client {
    pool.get().await.expect("there is a client")
}

async fn lists(pool: Data<Pool>) -> HttpResponse {
    let client = client(&pool).await;
    for list in client.query("SELECT id FROM list", &[]).await.unwrap() {
        let items = "SELECT title FROM item WHERE list = $1 AND title <> $2";
        let id: i32 = list.get(0);
        client.query(items, &[&id, &"it's\nnone"]).await.unwrap();
    }
    HttpResponse::Ok().finish()
}

async fn new(pool: Data<Pool>) -> HttpResponse {
    let mut client = client(&pool).await;
    let transaction = client.transaction().await.unwrap();
    let insert = "INSERT INTO list VALUES ($1, $2)";
    transaction
        .execute(insert, &[&7, &Option::<String>::None])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    HttpResponse::Created().finish()
}

async fn taken(pool: Data<Pool>) -> HttpResponse {
    let mut client = client(&pool).await;
    let transaction = client.transaction().await.unwrap();
    for _ in 0..2 {
        let insert = "INSERT INTO list VALUES (1, 'a')";
        if transaction.batch_execute(insert).await.is_err() {
            return HttpResponse::Conflict().body("list 1 is taken");
        }
    }
    HttpResponse::Created().finish()
}

async fn broken(pool: Data<Pool>) -> HttpResponse {
    let client = client(&pool).await;
    client.batch_execute("SELECT 'before'").await.unwrap();
    panic!("a broken handler")
}

/// Two of these run at the same time.
async fn meet(pool: Data<Pool>, meeting: Data<Barrier>) -> HttpResponse {
    let client = client(&pool).await;
    meeting.wait().await;
    client.batch_execute("SELECT 'met'").await.unwrap();
    meeting.wait().await;
    HttpResponse::Ok().finish()
}

impl Lists {
    pub(crate) async fn with_lists(live: &LiveServer) -> Result<()> {
        let client = live.pool().get().await?;
        let insert = "INSERT INTO list VALUES (1, 'a'), (2, 'b')";
        client.execute(insert, &[]).await?;
        Ok(())
    }
}

live_server! {
    impl Lists {
        async fn queries_stand_under_their_http_requests(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            live.get("/lists?page=1").send().await?;
            live.get("/new").send().await?;
            live.get("/none").send().await?;
            live.pool().get().await?.batch_execute("SELECT 1; ; SELECT 2").await?;
            assert_eq!(without_times(&live.queries().to_string()), EXPECTED_LIST);
            Ok(())
        }

        async fn queries_of_one_response(&self, live: &LiveServer) -> Result<()> {
            let mut taken = live.get("/taken").send().await?;
            assert_eq!(taken.body().await?, "list 1 is taken");
            let none = live.get("/none").send().await?;
            let new = live.get("/new").send().await?;
            let one = live.queries_of(&taken);
            assert_eq!(one.num_queries(), 2);
            assert_eq!(without_times(&one.to_string()), EXPECTED_TAKEN);
            assert_eq!(live.queries_of(&none).len(), 0);
            let queries = live.queries_of(&new).without_transaction_control();
            assert_eq!(queries.len(), 1);
            let insert = &queries[0];
            assert_eq!(insert.sql(), "INSERT INTO list VALUES ($1, $2)");
            assert!(insert.parameters().eq([Some("7"), None]));
            assert_eq!((insert.tag(), insert.rows()), (Some("INSERT 0 1"), Some(1)));
            assert_eq!(insert.code(), None);
            let exchange = insert.exchange().unwrap();
            assert_eq!((exchange.to_string(), exchange.status()), ("GET /new".to_owned(), Some(new.status())));
            Ok(())
        }

        async fn a_wrong_number_of_queries_is_told_with_all_of_them(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            let capture = live.capture();
            let response = assert_num_queries!(live, 3, { live.get("/lists").send().await? });
            assert_eq!(response.status(), 200);
            let panic = catch_unwind(AssertUnwindSafe(|| capture.assert_count(1))).unwrap_err();
            let words = panic.downcast_ref::<String>().unwrap();
            assert_eq!(without_times(words), EXPECTED_COUNT);
            Ok(())
        }

        async fn captured_are_only_those_of_the_future(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            let (response, queries) = live.capture_queries(live.get("/new").send()).await;
            assert_eq!(response?.status(), 201);
            assert_eq!((queries.len(), queries.num_queries(), queries.dropped()), (3, 1, 0));
            live.get("/lists").send().await?;
            assert_eq!(queries.len(), 3);
            Ok(())
        }

        async fn of_two_requests_at_once_it_is_said_that_it_is_one_of_them(&self, live: &LiveServer) -> Result<()> {
            let meet = |number: u8| live.get(&format!("/meet?{number}")).send();
            let (one, other) = join(meet(1), meet(2)).await;
            one?;
            other?;
            let queries = live.queries();
            assert_eq!(queries.len(), 2);
            for query in &queries {
                assert!(query.exchange().is_none());
                assert_eq!(query.exchanges().len(), 2);
            }
            let shown = without_times(&queries.to_string());
            let (_, last) = shown.split_once("the application").expect(&shown);
            // Either may have met the database first.
            let (_, first) = last.split_once("session ").expect(&shown);
            let expected = match first.starts_with('1') {
                true => EXPECTED_CONCURRENT.to_owned(),
                false => EXPECTED_CONCURRENT
                    .replace("session 1", "session 0")
                    .replace("session 2", "session 1")
                    .replace("session 0", "session 2"),
            };
            assert_eq!(last, expected);
            Ok(())
        }
    }
}

const EXPECTED_LIST: &str = "\
the test
   1  INSERT INTO list VALUES (1, 'a'), (2, 'b')  => INSERT 0 2, _ ms

GET /lists?page=1 => 200 OK, _ ms
   2  SELECT id FROM list  => SELECT 2, _ ms
   3  SELECT title FROM item WHERE list = $1 AND title <> $2  [1, 'it''s none']  => SELECT 0, _ ms
   4  SELECT title FROM item WHERE list = $1 AND title <> $2  [2, 'it''s none']  => SELECT 0, _ ms

GET /new => 201 Created, _ ms
      START TRANSACTION
   5  INSERT INTO list VALUES ($1, $2)  [7, NULL]  => INSERT 0 1, _ ms
      COMMIT

GET /none => 204 No Content, _ ms

the test
   6  SELECT 1  => SELECT 1, _ ms
   7  SELECT 2  => SELECT 1, _ ms
";

const EXPECTED_TAKEN: &str = "\
GET /taken => 409 Conflict, _ ms
      list 1 is taken
      START TRANSACTION
   1  INSERT INTO list VALUES (1, 'a')  => INSERT 0 1, _ ms
   2  INSERT INTO list VALUES (1, 'a')  => ERROR 23505: duplicate key value violates unique constraint \"list_pkey\"
      ROLLBACK
";

const EXPECTED_COUNT: &str = "\
expected 1 query, but there were 3:

GET /lists => 200 OK, _ ms
   1  SELECT id FROM list  => SELECT 2, _ ms
   2  SELECT title FROM item WHERE list = $1 AND title <> $2  [1, 'it''s none']  => SELECT 0, _ ms
   3  SELECT title FROM item WHERE list = $1 AND title <> $2  [2, 'it''s none']  => SELECT 0, _ ms
";

const EXPECTED_CONCURRENT: &str = ", for one of GET /meet?1, GET /meet?2
   1  session 1: SELECT 'met'  => SELECT 1, _ ms
   2  session 2: SELECT 'met'  => SELECT 1, _ ms
";

async fn open() -> SharedTransaction {
    SharedTransaction::open(&schema(), &Config::new())
        .await
        .expect("the transaction opens")
}

/// What a statement's line says, for each.
fn shown(transaction: &SharedTransaction) -> Vec<String> {
    let queries = transaction.queries();
    queries
        .iter()
        .map(|query| without_times(&query.to_string()))
        .collect()
}

#[tokio::test]
async fn each_way_to_fail_is_told_at_its_statement() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let fails = "SELECT 1 / $1::int";
    assert!(client.query("SELEC", &[]).await.is_err());
    assert!(client.query(fails, &[&0]).await.is_err());
    let script = "SELECT 1; SELECT 1 / 0; SELECT 2";
    assert!(client.batch_execute(script).await.is_err());
    assert!(client.batch_execute("SELECT 1; SELEC 2").await.is_err());
    let script = "BEGIN; SELECT 1 / 0; COMMIT";
    assert!(client.batch_execute(script).await.is_err());
    assert!(client.batch_execute("SELECT 1").await.is_err());
    client.batch_execute("COMMIT").await?;
    let orphan = "INSERT INTO item VALUES (1, 'orphan')";
    assert!(client.batch_execute(orphan).await.is_err());
    let script = format!("BEGIN; {orphan}; COMMIT");
    assert!(client.batch_execute(&script).await.is_err());
    assert!(client.batch_execute("SAVEPOINT s").await.is_err());
    let violated = "=> ERROR 23503: insert or update on table \"item\" violates foreign key constraint \
         \"item_list_fkey\"";
    assert_eq!(
        shown(&transaction),
        [
            "SELEC  => ERROR 42601: syntax error at or near \"SELEC\"",
            "SELECT 1 / $1::int  [0]  => ERROR 22012: division by zero",
            "SELECT 1  => SELECT 1, _ ms",
            "SELECT 1 / 0  => ERROR 22012: division by zero",
            "SELECT 1; SELEC 2  => ERROR 42601: syntax error at or near \"SELEC\"",
            "BEGIN",
            "SELECT 1 / 0  => ERROR 22012: division by zero",
            "SELECT 1  => ERROR 25P02: current transaction is aborted, commands ignored until end of transaction block",
            "COMMIT  => ROLLBACK",
            &format!("{orphan}  {violated}"),
            "BEGIN",
            &format!("{orphan}  => INSERT 0 1, _ ms"),
            &format!("COMMIT  {violated}"),
            "SAVEPOINT s  => ERROR 25P01: SAVEPOINT can only be used in transaction blocks",
        ]
    );
    transaction.rollback().await
}

#[tokio::test]
async fn blocks_are_numbered_across_sessions() -> Result<()> {
    let transaction = open().await;
    let pool = transaction.pool()?;
    let (a, b) = (pool.get().await?, pool.get().await?);
    a.batch_execute("SELECT 1").await?;
    a.batch_execute("BEGIN; SELECT 2").await?;
    a.batch_execute("COMMIT AND CHAIN").await?;
    a.execute("SELECT 3", &[]).await?;
    a.batch_execute("ROLLBACK").await?;
    b.batch_execute("BEGIN").await?;
    b.execute("SELECT 4", &[]).await?;
    b.batch_execute("COMMIT; SELECT 5").await?;
    let queries = transaction.queries();
    let blocks: Vec<_> = queries
        .iter()
        .map(|query| (query.sql(), query.session(), query.block()))
        .collect();
    assert_eq!(
        blocks,
        [
            ("SELECT 1", 1, None),
            ("BEGIN", 1, Some(1)),
            ("SELECT 2", 1, Some(1)),
            ("COMMIT AND CHAIN", 1, Some(1)),
            ("SELECT 3", 1, Some(2)),
            ("ROLLBACK", 1, Some(2)),
            ("BEGIN", 2, Some(3)),
            ("SELECT 4", 2, Some(3)),
            ("COMMIT", 2, Some(3)),
            ("SELECT 5", 2, None),
        ]
    );
    drop((a, b));
    transaction.rollback().await
}

/// A value as it goes over the wire.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

#[tokio::test]
async fn parameters_are_shown_as_postgresql_writes_them() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    client.batch_execute("SET TIME ZONE 'UTC'").await?;
    for (of_type, literals) in [
        ("bool", &["true", "false"][..]),
        ("int2", &["-32768", "7"]),
        ("int4", &["-2147483648", "7"]),
        ("int8", &["9223372036854775807", "-7"]),
        ("oid", &["4294967295"]),
        ("float4", &["1.5", "-0.25"]),
        ("float8", &["1.5", "-0.1"]),
        (
            "numeric",
            &[
                "0",
                "1",
                "-1.50",
                "12345678.9",
                "10000",
                "0.00001234",
                "1e20",
                "0.1234",
                "NaN",
                "-Infinity",
                "100000000.00",
            ],
        ),
        ("text", &["milk", "", "größer"]),
        ("varchar", &["milk"]),
        ("bpchar", &["milk"]),
        ("name", &["milk"]),
        ("\"char\"", &["m"]),
        ("json", &["{\"a\": 1}"]),
        ("jsonb", &["{\"a\": 1}"]),
        ("bytea", &["\\x00ff"]),
        ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        (
            "date",
            &[
                "2000-01-01",
                "1999-12-31",
                "2024-02-29",
                "1900-03-01",
                "9999-12-31",
                "0001-01-01",
                "0044-03-15 BC",
                "infinity",
            ],
        ),
        ("time", &["00:00:00", "23:59:59.999999", "12:30:00.5"]),
        (
            "timestamp",
            &["2024-02-29 12:30:00", "1969-07-20 20:17:40.25", "-infinity"],
        ),
        ("timestamptz", &["2024-02-29 12:30:00+00"]),
        ("int4[]", &["{1,NULL,3}", "{}"]),
        ("text[]", &["{a,b}"]),
        ("uuid[]", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"]),
        ("numeric[]", &["{1.5,2}"]),
        ("mood", &["happy"]),
    ] {
        for literal in literals {
            let select = format!("SELECT '{literal}'::{of_type}, '{literal}'::{of_type}::text");
            let row = client.query_one(&select, &[]).await?;
            let (raw, text): (Raw, String) = (row.get(0), row.get(1));
            let select = format!("SELECT $1::{of_type}");
            client.execute(&select, &[&raw]).await?;
            let queries = transaction.queries();
            let shown: Vec<_> = queries.last().unwrap().parameters().collect();
            assert_eq!(shown, [Some(&text[..])], "{of_type}");
        }
    }
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn what_is_not_known_is_shown_in_hexadecimal() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let point = Raw(vec![0; 16]);
    client.execute("SELECT $1::point", &[&point]).await?;
    let shown = transaction.queries().last().unwrap().to_string();
    let zeros = "0".repeat(32);
    assert_eq!(
        without_times(&shown),
        format!("SELECT $1::point  ['\\x{zeros}']  => SELECT 1, _ ms")
    );
    drop(client);
    transaction.rollback().await
}

/// What a type is the driver asks once for each connection, so that doesn't count.
#[tokio::test]
async fn a_drivers_questions_do_not_count() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    for _ in 0..2 {
        assert_num_queries!(transaction, 1, {
            client.query_one("SELECT 'sad'::mood", &[]).await?
        });
    }
    assert!(transaction.queries().len() > 2);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn the_oldest_are_dropped_and_the_test_is_told() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let long = format!("SELECT '{}'", "x".repeat(17_000));
    let capture = transaction.capture();
    for _ in 0..270 {
        client.batch_execute(&long).await?;
    }
    let queries = transaction.queries();
    let kept = u64::try_from(queries.len()).unwrap();
    assert!(queries.dropped() > 0 && kept + queries.dropped() == 270);
    // Of a long text, the first 16 KiB are kept.
    assert!(kept <= (4 << 20) / (16 << 10) && kept > 200, "{kept}");
    assert!(queries.iter().all(|query| query.sql().len() == 16 << 10));
    let count = || capture.assert_count(queries.len());
    let panic = catch_unwind(AssertUnwindSafe(count));
    let words = *panic.unwrap_err().downcast::<String>().unwrap();
    let told = format!("can't be counted: the first {}", queries.dropped());
    assert!(words.contains(&told));
    let told = format!("(the first {} are left out)", queries.dropped());
    assert!(words.contains(&told));
    drop(client);
    transaction.rollback().await
}

/// Statements that are sent behind one that fails are sent again, and yet run once.
#[tokio::test]
async fn what_is_sent_twice_is_listed_once() {
    Database::with("CREATE TABLE t ()", async |database| {
        let transaction = database.open().await;
        let pool = transaction.pool().unwrap();
        let clients = [
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
        ];
        let [a, b, c] = &clients;
        let (failed, (one, other)) = join(
            a.batch_execute("SELECT 1 / 0"),
            join(
                b.batch_execute("INSERT INTO t DEFAULT VALUES"),
                c.batch_execute("INSERT INTO t DEFAULT VALUES"),
            ),
        )
        .await;
        assert!(failed.is_err() && one.is_ok() && other.is_ok());
        assert_eq!(
            shown(&transaction),
            [
                "SELECT 1 / 0  => ERROR 22012: division by zero",
                "INSERT INTO t DEFAULT VALUES  => INSERT 0 1, _ ms",
                "INSERT INTO t DEFAULT VALUES  => INSERT 0 1, _ ms",
            ]
        );
        drop(clients);
        transaction.rollback().await.unwrap();
    })
    .await;
}

/// An application that has no pool of deadpool's, but connects to a URL.
#[derive(Default)]
struct Joined {
    database_url: String,
}

impl LiveServerTestCase for Joined {
    fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
        self.database_url = urls.database_url()?;
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, _: Pool) -> Result<Server> {
        let url = self.database_url.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(url.clone()))
                .route("/one", get().to(one))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

async fn one(url: Data<String>) -> HttpResponse {
    let connect = tokio_postgres::connect(&url, tokio_postgres::NoTls);
    let (client, connection) = connect.await.unwrap();
    let connection = actix_web::rt::spawn(connection);
    let outcome = client.batch_execute("SELECT 1").await;
    drop(client);
    connection.await.unwrap().unwrap();
    match outcome {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

live_server! {
    impl Joined {
        async fn connections_by_the_url_are_the_applications(&self, live: &LiveServer) -> Result<()> {
            let fault = live.faults().on("SELECT 1").fail(SqlState::DISK_FULL);
            let refused = live.get("/one").send().await?;
            let one = live.get("/one").send().await?;
            assert_eq!((refused.status().as_u16(), one.status().as_u16(), fault.hits()), (500, 200, 1));
            assert_eq!(live.queries_of(&one).num_queries(), 1);
            Ok(())
        }
    }
}
