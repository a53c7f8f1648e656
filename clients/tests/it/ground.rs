//! Where a scenario is played: on a shared transaction, and then, in the same database, on a plain server.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use actix_shareddb::{__private, Config, Schema, SharedTransaction};
use futures_util::FutureExt;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};

const SCHEMA: &str = "CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE)";

/// Plays a scenario twice, each time with the connection string of where it is played, and compares what it has to say.
pub(crate) async fn same(scenario: impl AsyncFn(String) -> String) -> String {
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let server = __private::resolve(&Schema::existing(), &Config::new())
        .await
        .expect("there is a server");
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    let name = format!("shareddb_clients_{}_{number}", std::process::id());
    let admin = connect(&server).await;
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    admin.batch_execute(&create).await.unwrap();

    let played = AssertUnwindSafe(async {
        let mut config = server.clone();
        config.dbname(&name);
        connect(&config).await.batch_execute(SCHEMA).await.unwrap();
        let plain = settings(&config);
        let config = Config::new().database_url(plain.clone());
        let transaction = SharedTransaction::open(&Schema::existing(), &config).await;
        let transaction = transaction.unwrap();
        let shared = scenario(transaction.database_url().unwrap()).await;
        transaction.rollback().await.unwrap();
        let plain = scenario(plain).await;
        assert_eq!(shared, plain, "\nshared:\n{shared}\nplain:\n{plain}");
        shared
    });
    let played = played.catch_unwind().await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.batch_execute(&drop).await.unwrap();
    played.unwrap_or_else(|panic| resume_unwind(panic))
}

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// The URL of a database; a folder of sockets goes where every driver looks for it.
fn settings(config: &tokio_postgres::Config) -> String {
    let encoded = |text: &str| {
        let bytes = text.bytes();
        bytes.map(|byte| format!("%{byte:02X}")).collect::<String>()
    };
    let mut url = "postgres://".to_owned();
    if let Some(user) = config.get_user() {
        url += &encoded(user);
    }
    if let Some(password) = config.get_password() {
        url += &format!(":{}", encoded(std::str::from_utf8(password).unwrap()));
    }
    let port = config.get_ports().first().unwrap_or(&5432);
    let name = config.get_dbname().unwrap();
    url + &match &config.get_hosts()[0] {
        Host::Tcp(host) => format!("@{host}:{port}/{name}"),
        Host::Unix(folder) => format!("@{}:{port}/{name}", encoded(folder.to_str().unwrap())),
    }
}
