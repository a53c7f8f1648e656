//! How the lists of a connection string are paired.

use tokio_postgres::Config;

use super::super::address::Endpoint;

fn endpoints(connection_string: &str) -> Result<String, String> {
    let config: Config = connection_string.parse().unwrap();
    match Endpoint::list(&config) {
        Ok(list) => Ok(list
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn lists_are_paired_as_libpq_pairs_them() {
    for (connection_string, expected) in [
        ("host=a", "a:5432"),
        ("host=a port=1", "a:1"),
        ("host=a,b,c port=1", "a:1 b:1 c:1"),
        ("host=a,b port=1,2", "a:1 b:2"),
        ("host=a,/run/postgresql port=1,2", "a:1 /run/postgresql:2"),
        ("hostaddr=127.0.0.1,::1 port=7", "127.0.0.1:7 ::1:7"),
        (
            "host=a,b hostaddr=10.0.0.1,10.0.0.2",
            "10.0.0.1:5432 10.0.0.2:5432",
        ),
    ] {
        assert_eq!(
            endpoints(connection_string),
            Ok(expected.to_owned()),
            "{connection_string}"
        );
    }
}

#[test]
fn lists_that_cannot_be_paired_are_refused() {
    for (connection_string, expected) in [
        ("user=a", "the connection string names no host"),
        (
            "host=a,b port=1,2,3",
            "the connection string names 2 hosts, 0 hostaddrs and 3 ports, which can't be paired",
        ),
        (
            "host=a,b hostaddr=127.0.0.1",
            "the connection string names 2 hosts, 1 hostaddrs and 0 ports, which can't be paired",
        ),
    ] {
        assert_eq!(
            endpoints(connection_string),
            Err(expected.to_owned()),
            "{connection_string}"
        );
    }
}

#[tokio::test]
async fn a_unix_address_is_the_path_of_the_socket() {
    let config: Config = "host=/var/run/postgresql port=5433".parse().unwrap();
    let [endpoint] = &Endpoint::list(&config).unwrap()[..] else {
        panic!("one host is one endpoint");
    };
    let [address] = &endpoint.resolve().await.unwrap()[..] else {
        panic!("a path has one address");
    };
    assert_eq!(address.to_string(), "/var/run/postgresql/.s.PGSQL.5433");
}
