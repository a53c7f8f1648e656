//! The address of a database as a URL, which every PostgreSQL client reads.

use std::fmt::Write as _;

use tokio_postgres::config::{Host, SslMode};

/// Whether the URL is for a program or for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Password {
    Told,
    Hidden,
}

pub(super) fn of(config: &tokio_postgres::Config, password: Password) -> String {
    let mut url = String::from("postgres://");
    let mut parameters = Vec::new();
    let user = config.get_user().map(|user| encoded(user.as_bytes()));
    let secret = match password {
        Password::Told => config.get_password().map(encoded),
        Password::Hidden => None,
    };
    let is_tcp = |host: &Host| matches!(host, Host::Tcp(_));
    if !config.get_hosts().iter().any(is_tcp) {
        // A URL that names a user names a host behind it, say those who read it by the book, sqlx among them.
        parameters.extend(user.map(|user| format!("user={user}")));
        parameters.extend(secret.map(|secret| format!("password={secret}")));
    } else if let Some(user) = user {
        url += &user;
        url.extend(secret.map(|secret| format!(":{secret}")));
        url.push('@');
    }
    // A path of a folder stands among the parameters, where all clients look for it.
    let ports = config.get_ports();
    let port = |index: usize| {
        ports
            .get(index)
            .or_else(|| ports.first())
            .copied()
            .unwrap_or(5432)
    };
    let mut hosts = Vec::new();
    for (index, host) in config.get_hosts().iter().enumerate() {
        match host {
            Host::Tcp(name) if name.contains(':') => {
                hosts.push(format!("[{name}]:{}", port(index)));
            }
            Host::Tcp(name) => hosts.push(format!("{name}:{}", port(index))),
            #[cfg(unix)]
            Host::Unix(folder) => {
                use std::os::unix::ffi::OsStrExt as _;
                parameters.push(format!("host={}", encoded(folder.as_os_str().as_bytes())));
                parameters.push(format!("port={}", port(index)));
            }
        }
    }
    url += &hosts.join(",");
    let _ = write!(
        url,
        "/{}",
        encoded(config.get_dbname().unwrap_or_default().as_bytes())
    );
    if config.get_ssl_mode() == SslMode::Require {
        parameters.push("sslmode=require".to_owned());
    }
    if !parameters.is_empty() {
        let _ = write!(url, "?{}", parameters.join("&"));
    }
    url
}

/// Percent-encoded, but for what needs it nowhere.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "host=localhost port=5433 user=alice password='p@ss w/rd' dbname=todo",
            "host=localhost,other port=5433,5434 user=alice dbname='to do'",
            "host=/var/run/postgresql user=alice password='p@ss w/rd' dbname=todo",
            "host=::1 user=alice dbname=todo sslmode=require",
            "host=localhost dbname=todo",
        ] {
            let config: tokio_postgres::Config = text.parse().unwrap();
            let read: tokio_postgres::Config = of(&config, Password::Told).parse().unwrap();
            assert_eq!(read.get_hosts(), config.get_hosts(), "{text}");
            assert_eq!(read.get_user(), config.get_user(), "{text}");
            assert_eq!(read.get_password(), config.get_password(), "{text}");
            assert_eq!(read.get_dbname(), config.get_dbname(), "{text}");
            assert_eq!(read.get_ssl_mode(), config.get_ssl_mode(), "{text}");
            assert_eq!(
                read.get_ports().first(),
                Some(config.get_ports().first().unwrap_or(&5432)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_user_before_no_host_is_none_of_a_url() {
        let config = "host=/tmp user=alice password=s&cret dbname=todo";
        let config = config.parse().unwrap();
        assert_eq!(
            of(&config, Password::Told),
            "postgres:///todo?user=alice&password=s%26cret&host=%2Ftmp&port=5432"
        );
    }

    #[test]
    fn people_see_no_password() {
        for (host, url) in [
            ("localhost", "postgres://alice@localhost:5432/todo"),
            ("/tmp", "postgres:///todo?user=alice&host=%2Ftmp&port=5432"),
        ] {
            let config = format!("host={host} user=alice password=secret dbname=todo");
            assert_eq!(of(&config.parse().unwrap(), Password::Hidden), url);
        }
    }
}
