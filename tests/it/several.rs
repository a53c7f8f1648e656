//! An application with several databases: each shared by itself, all rolled back together, or external by name.

use std::any::Any;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use actix_shareddb::__private::run;
use actix_shareddb::{
    Config, Databases, Isolation, LiveServer, LiveServerTestCase, Pool, Pools, Result, Schema,
    live_server,
};
use actix_web::dev::Server;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use tokio_postgres::NoTls;

use crate::stage::{self, Database};

/// The pools that `main` makes.
#[derive(Clone)]
struct Shop {
    orders: Pool,
    audit: Pool,
}

fn serve(listener: TcpListener, shop: Shop) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(shop.clone()))
            .route("/orders/{item}", web::post().to(order))
    });
    Ok(server.workers(1).listen(listener)?.run())
}

/// Every attempt is audited, whether or not it becomes an order.
async fn order(shop: Data<Shop>, item: web::Path<String>) -> HttpResponse {
    let mut orders = shop.orders.get().await.unwrap();
    let order = orders.transaction().await.unwrap();
    let insert = "INSERT INTO orders (item) VALUES ($1)";
    let inserted = order.execute(insert, &[&*item]).await;
    let audit = shop.audit.get().await.unwrap();
    let insert = "INSERT INTO attempts (item, accepted) VALUES ($1, $2)";
    audit
        .execute(insert, &[&*item, &inserted.is_ok()])
        .await
        .unwrap();
    match inserted {
        Ok(_) => {
            order.commit().await.unwrap();
            HttpResponse::Created().finish()
        }
        Err(_) => HttpResponse::Conflict().finish(),
    }
}

async fn count(pool: &Pool, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    pool.get()
        .await
        .unwrap()
        .query_one(&sql, &[])
        .await
        .unwrap()
        .get(0)
}

const ORDERS: &str = "CREATE TABLE orders (item text UNIQUE)";
const AUDIT: &str = "CREATE TABLE attempts (item text, accepted bool)";

fn transaction() -> Config {
    Config::new().isolation(Isolation::Transaction)
}

/// Both are shared.
#[derive(Default)]
struct Shared;

impl LiveServerTestCase<Pools> for Shared {
    fn schema() -> Schema {
        Schema::sql(ORDERS)
    }

    fn config() -> Config {
        transaction()
    }

    fn databases() -> Databases {
        Databases::new().share("audit", Schema::sql(AUDIT), transaction())
    }

    async fn prepare(&mut self, pools: &Pools) -> Result<()> {
        let audit = pools.pool("audit").get().await?;
        audit
            .batch_execute("INSERT INTO attempts (item) VALUES ('prepared')")
            .await?;
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pools: Pools) -> Result<Server> {
        let shop = Shop {
            orders: pools.pool("default"),
            audit: pools.pool("audit"),
        };
        Ok(serve(listener, shop)?)
    }
}

/// What each of them does is as if it were the only one.
async fn an_order_and_its_repetition(live: &LiveServer) -> Result<()> {
    for (status, attempts) in [(201, 2), (409, 3)] {
        assert_eq!(live.post("/orders/milk").send().await?.status(), status);
        assert_eq!(count(live.pool(), "orders").await, 1);
        assert_eq!(count(&live.pool_of("audit"), "attempts").await, attempts);
    }
    Ok(())
}

live_server! {
    impl Shared {
        async fn what_fails_in_one_is_kept_in_the_other(&mut self, live: &LiveServer) -> Result<()> {
            an_order_and_its_repetition(live).await
        }

        async fn nothing_of_another_test_is_seen(&mut self, live: &LiveServer) -> Result<()> {
            an_order_and_its_repetition(live).await
        }

        async fn each_has_a_url_of_its_own(&mut self, live: &LiveServer) -> Result<()> {
            live.post("/orders/milk").send().await?;
            for (url, table) in [
                (live.database_url()?, "orders"),
                (live.database_url_of("default")?, "orders"),
                (live.database_url_of("audit")?, "attempts WHERE accepted"),
            ] {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                actix_web::rt::spawn(connection);
                let sql = format!("SELECT count(*) FROM {table}");
                assert_eq!(client.query_one(&sql, &[]).await?.get::<_, i64>(0), 1, "{table}");
            }
            Ok(())
        }

        #[should_panic(expected = "no database is called 'adit', there is 'default', 'audit'; \
                                   LiveServerTestCase::databases names them, to be shared or as external ones")]
        async fn one_that_is_not_named_is_refused(&mut self, live: &LiveServer) -> Result<()> {
            live.pool_of("adit");
            Ok(())
        }

        #[should_panic(expected = "the rollback failed for 'audit': the shared transaction is lost: the server has ended its connection")]
        async fn a_failure_names_its_database(&mut self, live: &LiveServer) -> Result<()> {
            let audit = live.pool_of("audit").get().await?;
            let end = audit.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await;
            assert!(end.is_err());
            Ok(())
        }
    }
}

/// The audit has a database of its own, in which it commits.
#[derive(Default)]
struct Mixed;

impl LiveServerTestCase<Pools> for Mixed {
    fn schema() -> Schema {
        Schema::sql(ORDERS)
    }

    fn config() -> Config {
        transaction()
    }

    fn databases() -> Databases {
        let own = Config::new().isolation(Isolation::Database);
        Databases::new().share("audit", Schema::sql(AUDIT), own)
    }

    async fn serve(&self, listener: TcpListener, pools: Pools) -> Result<Server> {
        Shared.serve(listener, pools).await
    }
}

live_server! {
    impl Mixed {
        async fn each_has_its_own_isolation(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.post("/orders/milk").send().await?.status(), 201);
            let concurrently = |table| format!("CREATE INDEX CONCURRENTLY ON {table} (item)");
            let audit = live.pool_of("audit").get().await?;
            audit.batch_execute(&concurrently("attempts")).await?;
            let orders = live.pool().get().await?;
            let refused = orders.batch_execute(&concurrently("orders")).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "25001");
            assert_eq!(count(&live.pool_of("audit"), "attempts").await, 1);
            Ok(())
        }

        #[isolation(Database)]
        async fn a_test_decides_for_those_that_say_nothing(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.isolation(), Isolation::Database);
            Ok(())
        }
    }
}

/// Orders are read and written through two pools of one database.
#[derive(Default)]
struct ReadAndWrite;

impl LiveServerTestCase<Pools> for ReadAndWrite {
    fn schema() -> Schema {
        Schema::sql(ORDERS)
    }

    fn databases() -> Databases {
        Databases::new()
            .share("reading", Schema::sql(ORDERS), Config::new())
            .share("audit", Schema::sql(AUDIT), Config::new())
    }

    async fn serve(&self, listener: TcpListener, pools: Pools) -> Result<Server> {
        Shared.serve(listener, pools).await
    }
}

live_server! {
    impl ReadAndWrite {
        async fn two_names_of_one_database_share_it(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.post("/orders/milk").send().await?.status(), 201);
            assert_eq!(count(&live.pool_of("reading"), "orders").await, 1);
            Ok(())
        }
    }
}

/// The audit is external.
#[derive(Default)]
struct LeftAlone;

static LEFT: OnceLock<String> = OnceLock::new();

impl LiveServerTestCase<Pools> for LeftAlone {
    fn schema() -> Schema {
        Schema::sql(ORDERS)
    }

    fn databases() -> Databases {
        let url = LEFT.get().unwrap();
        Databases::new().external("audit", Config::new().database_url(url))
    }

    async fn serve(&self, listener: TcpListener, pools: Pools) -> Result<Server> {
        Shared.serve(listener, pools).await
    }
}

#[tokio::test]
async fn what_is_left_alone_is_as_without_this_crate() {
    Database::with(AUDIT, async |database| {
        LEFT.set(database.settings()).unwrap();
        let test = async |_: &mut LeftAlone, live: &LiveServer| -> Result<()> {
            assert_eq!(live.post("/orders/milk").send().await?.status(), 201);
            assert_eq!(count(&live.pool_of("audit"), "attempts").await, 1);
            // A plain connection, at the address of the database itself.
            let (client, connection) =
                tokio_postgres::connect(&live.database_url_of("audit")?, NoTls).await?;
            actix_web::rt::spawn(connection);
            let sql = "SELECT count(*) FROM attempts";
            assert_eq!(client.query_one(sql, &[]).await?.get::<_, i64>(0), 1);
            Ok(())
        };
        std::thread::spawn(move || run("it::left", test))
            .join()
            .unwrap();
        let client = stage::connect(&database.config).await;
        let sql = "SELECT item FROM attempts";
        let item: String = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(item, "milk", "what was committed stays");
    })
    .await;
}

/// Which one is external isn't said.
#[derive(Default)]
struct Unnamed;

impl LiveServerTestCase<Pools> for Unnamed {
    fn databases() -> Databases {
        Databases::new().external("audit", Config::new())
    }

    async fn serve(&self, _: TcpListener, _: Pools) -> Result<Server> {
        unreachable!("the databases are opened first")
    }
}

#[test]
fn what_is_left_alone_has_to_be_named() {
    let words = failure(|| run("it::unnamed", async |_: &mut Unnamed, _: &LiveServer| ()));
    assert_eq!(
        words,
        "the test's database did not open for 'audit': the external database has no URL\n  help: say by \
         Config::database_url which one it is, or share it; what the application commits there stays"
    );
}

fn failure(test: impl FnOnce()) -> String {
    let panic: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}
