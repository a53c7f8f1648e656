//! Databases of a test's own: what they are made of, and what becomes of them.

use super::private::{Private, connect};
use super::*;
use crate::database::lane::OwnDatabase;

async fn open_own(schema: &Schema, config: &Config) -> Result<OwnDatabase> {
    OwnDatabase::open_in(find(schema, Isolation::Database, config).await?, config).await
}

async fn open(schema: &Schema, config: &Config) -> (OwnDatabase, tokio_postgres::Config) {
    let database = open_own(schema, config).await.expect("a database");
    let target = database.database_url().parse().expect("its URL");
    (database, target)
}

async fn error(schema: &Schema, config: &Config) -> String {
    let error = open_own(schema, config).await.expect_err("an error");
    format!("{error:?}")
}

#[tokio::test]
async fn each_is_like_the_prepared_one_and_gone_at_its_end() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let schema = Schema::sql(
        "CREATE TABLE own (a int); INSERT INTO own VALUES (1);
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, \"My Schema\"', current_database());
            EXECUTE format('ALTER DATABASE %I SET app.tenant = ''it''''s 7''', current_database()); END $$",
    );
    let prepared = resolve(&schema, &config).await.expect("a database");
    // Somebody is connected to it, as tests in shared transactions are.
    let user = connect(&prepared).await;
    let (one, first) = open(&schema, &config).await;
    let (other, second) = open(&schema, &config).await;
    assert_ne!(name(&first), name(&second));
    connect(&first)
        .await
        .batch_execute("INSERT INTO own VALUES (2)")
        .await
        .expect("an insert");
    assert_eq!(count(&first, "own").await, 2);
    assert_eq!(count(&second, "own").await, 1);
    assert_eq!(count(&prepared, "own").await, 1);
    for config in [&first, &prepared] {
        let settings = connect(config)
            .await
            .query_one(
                "SELECT current_setting('search_path'), current_setting('app.tenant')",
                &[],
            )
            .await
            .expect("the settings");
        assert_eq!(settings.get::<_, &str>(0), "public, \"My Schema\"");
        assert_eq!(settings.get::<_, &str>(1), "it's 7");
    }
    // Whoever is still connected.
    let late = connect(&first).await;
    one.end().await.expect("its end");
    other.end().await.expect("its end");
    assert!(late.batch_execute("SELECT 1").await.is_err());
    assert_eq!(private.databases_like(&name(&first)).await.len(), 0);
    assert_eq!(private.databases_like(&name(&second)).await.len(), 0);
    drop(user);
}

#[tokio::test]
async fn one_that_is_dropped_without_its_end_is_dropped_on_the_server() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let (database, target) = open(&Schema::sql("CREATE TABLE forgotten ()"), &config).await;
    drop(database);
    while !private.databases_like(&name(&target)).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_killed_processes_have_left_is_dropped_and_nothing_else() {
    let private = Private::join();
    let client = private.client("postgres").await;
    // The other tests' keepers look for leftovers, too, so each has an owner until it is what it shall be.
    let owner = async |name: &str| {
        let mut config: tokio_postgres::Config = private
            .config("postgres", "postgres")
            .url()
            .expect("a URL")
            .parse()
            .expect("a configuration");
        config.application_name(&name[..30]);
        let owner = connect(&config).await;
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("a database");
        owner
    };
    let [left, used, kept] = [
        "0123456789abcdef_0",
        "fedcba9876543210_7",
        "0123456789abcdee_1",
    ]
    .map(|name| format!("shareddb_lane_{name}"));
    let (killed, alive, ended) = (owner(&left).await, owner(&used).await, owner(&kept).await);
    client
        .batch_execute(&format!("COMMENT ON DATABASE {kept} IS 'kept'"))
        .await
        .expect("a comment");
    // Its backend runs on when the process is gone.
    let orphan = private.client(&left).await;
    drop((killed, ended));
    let gone = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name IN ($1, $2, $3)";
    while !client
        .query_one(gone, &[&&left[..30], &&used[..30], &&kept[..30]])
        .await
        .expect("the activity")
        .get::<_, bool>(0)
    {
        tokio::task::yield_now().await;
    }

    // Another database than that of the other tests, so that it is another keeper, which has just begun.
    client
        .batch_execute("CREATE DATABASE sweeping")
        .await
        .expect("a database");
    let (database, _) = open(
        &Schema::sql("CREATE TABLE swept ()"),
        &private.config("postgres", "sweeping"),
    )
    .await;
    database.end().await.expect("its end");

    assert!(orphan.batch_execute("SELECT 1").await.is_err());
    assert_eq!(private.databases_like(&left).await.len(), 0);
    assert_eq!(
        private.databases_like(&used).await,
        std::slice::from_ref(&used)
    );
    assert_eq!(
        private.databases_like(&kept).await,
        std::slice::from_ref(&kept)
    );
    drop(alive);
    client
        .batch_execute(&format!("DROP DATABASE {used}"))
        .await
        .expect("its end");
    client
        .batch_execute(&format!("DROP DATABASE {kept}"))
        .await
        .expect("its end");
}

#[tokio::test]
async fn one_that_is_kept_outlives_its_keeper_and_says_how_to_look_into_it() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let (database, target) = open(&Schema::sql("CREATE TABLE kept_one ()"), &config).await;
    let words = database.keep().await.expect("words");
    let name = name(&target);
    let dir = private.dir().display().to_string().replace('/', "%2F");
    assert_eq!(
        words,
        format!(
            "the test's database was kept as {name}:\n  \
            psql 'postgres:///{name}?user=postgres&host={dir}&port=5432'\n\
            to drop it:\n  \
            psql 'postgres:///postgres?user=postgres&host={dir}&port=5432' -c 'DROP DATABASE {name}'"
        )
    );
    assert_eq!(count(&target, "kept_one").await, 0);
    let row = private
        .client("postgres")
        .await
        .query_one(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
            &[&name],
        )
        .await
        .expect("its comment");
    assert!(
        row.get::<_, &str>(0)
            .starts_with("actix-shareddb: prepared for /")
    );
}

#[tokio::test]
async fn an_existing_database_is_cloned_unless_somebody_is_connected_to_it() {
    let private = Private::join();
    let client = private.client("postgres").await;
    client
        .batch_execute("CREATE DATABASE existing_lane")
        .await
        .expect("a database");
    let config = private.config("postgres", "existing_lane");
    let user = private.client("existing_lane").await;
    user.batch_execute("CREATE TABLE present ()")
        .await
        .expect("a table");
    assert_eq!(
        error(&Schema::existing(), &config).await,
        format!(
            "cannot clone the database existing_lane on the server of Config::database_url at {}\n  \
            caused by: ERROR 55006: source database \"existing_lane\" is being accessed by other users\n\
            DETAIL: There is 1 other session using the database.\n  \
            help: close what is connected to existing_lane, for PostgreSQL clones a database only while nobody else is \
            connected to it: psql, the application, tests in a shared transaction there;\n        \
            or give the case a Schema, of which a template is made that nobody connects to",
            private.dir().display()
        )
    );
    drop(user);
    // The server waits for those who are about to go.
    let (database, target) = open(&Schema::existing(), &config).await;
    assert_eq!(count(&target, "present").await, 0);
    database.end().await.expect("its end");
}

#[tokio::test]
async fn who_may_not_clone_is_told_what_to_grant() {
    let private = Private::join();
    let client = private.client("postgres").await;
    client
        .batch_execute("CREATE DATABASE foreign_lane")
        .await
        .expect("a database");
    client
        .batch_execute("CREATE ROLE \"Clara\" LOGIN")
        .await
        .expect("a role");
    let config = private.config("Clara", "foreign_lane");
    for remedy in [
        "let the role create databases, as a superuser:\n            ALTER ROLE \"Clara\" CREATEDB;",
        "let everybody who may create databases clone it, as its owner:\n            \
        ALTER DATABASE \"foreign_lane\" IS_TEMPLATE true;",
    ] {
        let error = error(&Schema::existing(), &config).await;
        assert!(error.contains(&format!("help: {remedy}")), "{error}");
        let (_, grant) = remedy.split_once('\n').expect("a statement");
        client
            .batch_execute(grant.trim())
            .await
            .expect("the remedy");
    }
    let (database, _) = open(&Schema::existing(), &config).await;
    database.end().await.expect("its end");
}
