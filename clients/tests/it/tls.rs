//! TLS by a real connector (rustls) to a real server, whose certificate each run makes anew.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{io, thread};

use actix_shareddb::{Config, Pool, Schema, SharedTransaction};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use tokio::sync::Barrier;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::PrivatePostgres;

/// A server that lets nobody in who doesn't encrypt, and an authority that vouches for it.
struct Ground {
    server: PrivatePostgres,
    authority: CertificateDer<'static>,
}

impl Ground {
    /// The ground that all tests share while any of them runs.
    fn join() -> Arc<Self> {
        static SHARED: Mutex<Weak<Ground>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Self::make());
            *shared = Arc::downgrade(&made);
            made
        })
    }

    fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();

        // The server itself writes the files, which have to be its own.
        let file = |name: &str, pem: &str| {
            let lines: Vec<_> = pem.lines().map(|line| format!("'{line}'")).collect();
            let lines = lines.join(", ");
            format!("COPY (SELECT unnest(ARRAY[{lines}])) TO PROGRAM 'umask 077; cat >{name}'\n")
        };
        let statements = [
            file("server.crt", &certificate.pem()),
            file("server.key", &key.serialize_pem()),
            "ALTER SYSTEM SET ssl = on\n".to_owned(),
            "CREATE ROLE scram LOGIN PASSWORD 'secret'\n".to_owned(),
        ];
        let hba = "local all all trust\n\
                   hostssl all scram 127.0.0.1/32 scram-sha-256\n\
                   hostssl all all 127.0.0.1/32 trust\n";
        Self {
            server: PrivatePostgres::start(hba, &statements.concat()),
            authority: authority.der().clone(),
        }
    }

    fn url(&self, options: &str) -> String {
        let port = self.server.port();
        format!("host=localhost port={port} user=postgres dbname=postgres {options}")
    }

    /// Waits until the server runs a statement that sleeps.
    async fn somebody_sleeps(&self) {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(self.server.directory())
            .port(self.server.port())
            .user("postgres")
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    }

    /// Trusts the authority, and compares names.
    fn connector(&self) -> MakeRustlsConnect {
        trusting(&self.authority)
    }

    fn config(&self, options: &str) -> Config {
        Config::new()
            .database_url(self.url(options))
            .tls(self.connector())
    }
}

fn trusting(authority: &CertificateDer<'static>) -> MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    MakeRustlsConnect::new(
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

async fn open(config: &Config) -> SharedTransaction {
    SharedTransaction::open(&Schema::existing(), config)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
}

async fn refusal(config: &Config) -> String {
    let refused = SharedTransaction::open(&Schema::existing(), config).await;
    format!("{:?}", refused.expect_err("no transaction was expected"))
}

async fn ask(pool: &Pool, sql: &str) -> String {
    let client = pool.get().await.unwrap();
    client.query_one(sql, &[]).await.unwrap().get(0)
}

const VERSION: &str =
    "SELECT coalesce(version, 'none') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn a_transaction_is_encrypted_in_every_mode_and_its_backend_kept() {
    let ground = Ground::join();
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let config = ground.config(&format!("sslmode={mode}"));
        let mut backends = Vec::new();
        for _ in 0..2 {
            let transaction = open(&config).await;
            let pool = transaction.pool().unwrap();
            assert!(ask(&pool, VERSION).await.starts_with("TLSv1."), "{mode}");
            let client = pool.get().await.unwrap();
            let create = "CREATE TABLE t AS SELECT 1 AS a";
            client.batch_execute(create).await.unwrap();
            drop(client);
            backends.push(ask(&pool, "SELECT pg_backend_pid()::text").await);
            transaction.rollback().await.unwrap();
        }
        assert_eq!(backends[0], backends[1], "{mode}");
    }
}

#[tokio::test]
async fn a_schema_is_prepared_over_encrypted_connections() {
    let ground = Ground::join();
    let schema = Schema::sql("CREATE TABLE prepared AS SELECT 'as it is' AS words");
    let config = ground.config("sslmode=verify-full");
    let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
    let pool = transaction.pool().unwrap();
    assert_eq!(ask(&pool, "SELECT words FROM prepared").await, "as it is");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_password_is_bound_to_the_channel() {
    let ground = Ground::join();
    let options = "user=scram password=secret sslmode=require channel_binding=require";
    let transaction = open(&ground.config(options)).await;
    let pool = transaction.pool().unwrap();
    assert_eq!(ask(&pool, "SELECT current_user::text").await, "scram");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn large_values_of_many_clients_get_through_both_ways() {
    let ground = Ground::join();
    let transaction = open(&ground.config("sslmode=require")).await;
    let pool = transaction.pool().unwrap();
    let all_at_once = Arc::new(Barrier::new(4));
    let clients = (0..4_u8).map(|nth| {
        let (pool, all_at_once) = (pool.clone(), Arc::clone(&all_at_once));
        // Each on a runtime of its own, as the workers of a server are.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = pool.get().await.unwrap();
                all_at_once.wait().await;
                let value = vec![nth; 1 << 20];
                for _ in 0..8 {
                    let echo = client.query_one("SELECT $1::bytea", &[&value]).await;
                    assert_eq!(echo.unwrap().get::<_, Vec<u8>>(0), value);
                }
            });
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.join().unwrap();
    }
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_cancel_is_encrypted() {
    let ground = Ground::join();
    let proxy = Proxy::before(ground.server.port());
    let config = Config::new()
        .database_url(format!(
            "host=localhost port={} user=postgres dbname=postgres sslmode=verify-full",
            proxy.port
        ))
        .tls(ground.connector())
        .drain_timeout(Duration::ZERO);
    let transaction = open(&config).await;
    let client = transaction.pool().unwrap().get().await.unwrap();
    let running = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    ground.somebody_sleeps().await;
    transaction.rollback().await.unwrap();
    running.await.unwrap().unwrap_err();

    // Each has begun by asking for encryption, and the second one was that of the cancel.
    let openings = proxy.openings();
    assert_eq!(*openings, [SSL_REQUEST; 2]);
}

#[tokio::test]
async fn a_socket_file_is_not_encrypted() {
    let ground = Ground::join();
    let (folder, port) = (ground.server.directory().display(), ground.server.port());
    let config = Config::new()
        .database_url(format!(
            "host={folder} port={port} user=postgres sslmode=require"
        ))
        .tls(ground.connector());
    let transaction = open(&config).await;
    assert_eq!(ask(&transaction.pool().unwrap(), VERSION).await, "none");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn without_encryption_the_server_is_not_reached() {
    let ground = Ground::join();
    let error = refusal(&ground.config("sslmode=disable")).await;
    assert!(error.contains("no pg_hba.conf entry for host"), "{error}");
    let without = Config::new().database_url(ground.url("sslmode=verify-full"));
    let error = refusal(&without).await;
    assert!(
        error.starts_with(
            "the connection string requires TLS, and the configuration has no connector"
        ),
        "{error}"
    );
    assert!(
        error.contains("help: give Config::tls the connector"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told() {
    let ground = Ground::join();
    let stranger = CertifiedIssuer::self_signed(
        {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        },
        KeyPair::generate().unwrap(),
    )
    .unwrap();
    let config = Config::new()
        .database_url(ground.url("sslmode=prefer"))
        .tls(trusting(stranger.der()));
    let error = refusal(&config).await;
    assert!(
        error.contains("caused by: invalid peer certificate"),
        "{error}"
    );
    assert!(
        error.contains("help: check that the connector given to Config::tls trusts"),
        "{error}"
    );

    // The right authority, and another name than the certificate's.
    let url = ground
        .url("sslmode=verify-full")
        .replace("localhost", "127.0.0.1");
    let error = refusal(&Config::new().database_url(url).tls(ground.connector())).await;
    assert!(error.contains("not valid for name"), "{error}");
    // An address to connect to, and the name to verify.
    let url = ground.url("hostaddr=127.0.0.1 sslmode=verify-full");
    let config = Config::new().database_url(url).tls(ground.connector());
    open(&config).await.rollback().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_is_told() {
    let plain = PrivatePostgres::start("host all all 127.0.0.1/32 trust\n", "");
    let url = |mode| {
        format!(
            "host=localhost port={} user=postgres sslmode={mode}",
            plain.port()
        )
    };
    let connector = Ground::join().connector();
    let config = Config::new()
        .database_url(url("require"))
        .tls(connector.clone());
    let error = refusal(&config).await;
    assert!(
        error.contains("caused by: the server does not support TLS"),
        "{error}"
    );
    assert!(error.contains("help: set `ssl = on` there"), "{error}");

    let config = Config::new().database_url(url("prefer")).tls(connector);
    let transaction = open(&config).await;
    assert_eq!(ask(&transaction.pool().unwrap(), VERSION).await, "none");
    transaction.rollback().await.unwrap();
}

/// What a client that wants encryption says first.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Stands before the server, and notes with what each connection begins.
struct Proxy {
    port: u16,
    openings: Arc<Mutex<Vec<[u8; 8]>>>,
}

impl Proxy {
    /// Its threads end with the connections, but for the one that listens, which ends with the process.
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let openings = Arc::default();
        let noted = Arc::clone(&openings);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, noted) = (client.unwrap(), Arc::clone(&noted));
                thread::spawn(move || pass_on(&mut client, server, &noted));
            }
        });
        Self { port, openings }
    }

    fn openings(&self) -> MutexGuard<'_, Vec<[u8; 8]>> {
        self.openings.lock().unwrap()
    }
}

fn pass_on(client: &mut TcpStream, server: u16, openings: &Mutex<Vec<[u8; 8]>>) {
    let mut opening = [0; 8];
    client.read_exact(&mut opening).unwrap();
    openings.lock().unwrap().push(opening);
    let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
    server.write_all(&opening).unwrap();
    let (mut from_server, mut to_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = io::copy(client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
}
