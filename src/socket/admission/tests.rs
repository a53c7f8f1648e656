//! A client of each kind at the door, over a stream in memory.

use tokio::io::duplex;

use super::*;

/// What a client sees that sends these bytes, and what becomes of it.
async fn at_the_door(sent: &[u8]) -> (Vec<u8>, io::Result<Purpose>) {
    let admission = Admission {
        database: "todo".to_owned(),
        password: Some("secret".to_owned()),
    };
    let (mut client, mut server) = duplex(1 << 16);
    client.write_all(sent).await.unwrap();
    client.shutdown().await.unwrap();
    let outcome = admission.admit(&mut server).await;
    drop(server);
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.unwrap();
    (seen, outcome)
}

fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0; 4];
    packet.extend(version.to_be_bytes());
    for (name, value) in parameters {
        for text in [name, value] {
            packet.extend(text.as_bytes());
            packet.push(0);
        }
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).unwrap();
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn password(text: &str) -> Vec<u8> {
    let mut message = vec![b'p'];
    message.extend(u32::try_from(text.len() + 5).unwrap().to_be_bytes());
    message.extend(text.as_bytes());
    message.push(0);
    message
}

fn code_and_text(seen: &[u8]) -> Vec<String> {
    let mut seen = BytesMut::from(seen);
    let mut told = Vec::new();
    while let Some(message) = Message::take_backend(&mut seen).unwrap() {
        if message.tag() == b'E' {
            let field =
                |code| String::from_utf8(message.error_field(code).unwrap().to_vec()).unwrap();
            told.push(format!("{} {} {}", field(b'S'), field(b'C'), field(b'M')));
        }
    }
    told
}

const ALICE: (&str, &str) = ("user", "alice");
const TODO: (&str, &str) = ("database", "todo");

#[tokio::test]
async fn who_knows_the_password_is_let_in() {
    let mut sent = vec![0, 0, 0, 8, 4, 210, 22, 47];
    sent.extend(startup(
        PROTOCOL_3_0,
        &[ALICE, TODO, ("application_name", "it")],
    ));
    sent.extend(password("secret"));
    let (seen, outcome) = at_the_door(&sent).await;
    assert_eq!(seen, b"NR\0\0\0\x08\0\0\0\x03");
    let Ok(Purpose::Session { minor: 0, wishes }) = outcome else {
        panic!("{outcome:?}");
    };
    let name = ("application_name".to_owned(), "it".to_owned());
    assert_eq!(wishes.settings, [name]);
}

#[tokio::test]
async fn who_is_refused_is_told_in_postgresql_s_words() {
    let wrong = "FATAL 28P01 password authentication failed for user \"alice\"";
    let none = "FATAL 3D000 database \"alice\" does not exist";
    let encoding = "FATAL 0A000 the client encoding SJIS can't be used in a shared transaction";
    let replication = "FATAL 0A000 replication needs a connection of its own to the server";
    let nobody = "FATAL 28000 no PostgreSQL user name specified in startup packet";
    let response = "FATAL 08P01 expected password response, got message type 81";
    let sjis = ("client_encoding", "SJIS");
    for (parameters, answer, told) in [
        (&[ALICE, TODO][..], password("wrong"), wrong),
        (&[ALICE, TODO], password(""), wrong),
        (&[ALICE, ("database", "other")], password("wrong"), wrong),
        (&[ALICE], password("secret"), none),
        (&[ALICE, TODO, sjis], password("secret"), encoding),
        (
            &[ALICE, TODO, ("replication", "database")],
            password("secret"),
            replication,
        ),
        (&[TODO], Vec::new(), nobody),
        (&[ALICE, TODO], b"Q\0\0\0\x05\0".to_vec(), response),
    ] {
        let mut sent = startup(PROTOCOL_3_0, parameters);
        sent.extend(answer);
        let (seen, outcome) = at_the_door(&sent).await;
        assert!(matches!(outcome, Ok(Purpose::Nothing)), "{outcome:?}");
        assert_eq!(code_and_text(&seen), [told], "{parameters:?}");
    }
}

#[tokio::test]
async fn what_of_the_protocol_is_not_known_is_negotiated() {
    for (minor, option, told) in [
        (0, false, &b""[..]),
        (2, false, b""),
        (3, false, b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
        (9999, false, b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
        (0, true, b"v\0\0\0\x16\0\x03\0\0\0\0\0\x01_pq_.test\0"),
        (2, true, b"v\0\0\0\x16\0\x03\0\x02\0\0\0\x01_pq_.test\0"),
    ] {
        let mut parameters = vec![ALICE, TODO];
        parameters.extend(option.then_some(("_pq_.test", "1")));
        let mut sent = startup(PROTOCOL_3_0 + minor, &parameters);
        sent.extend(password("secret"));
        let (seen, outcome) = at_the_door(&sent).await;
        let Ok(Purpose::Session { minor: asked, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(u32::from(asked), minor);
        let expected = [told, b"R\0\0\0\x08\0\0\0\x03"].concat();
        assert_eq!(seen, expected, "{minor} {option}");
    }
}

#[tokio::test]
async fn encryption_that_was_declined_is_not_asked_for_again() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let gss = [0, 0, 0, 8, 4, 210, 22, 48];
    for (requests, declined, code) in [
        (&[ssl, ssl][..], "N", 5679),
        (&[gss, gss], "N", 5680),
        (&[ssl, gss, ssl, ssl], "NNN", 5679),
    ] {
        let (seen, outcome) = at_the_door(&requests.concat()).await;
        assert!(matches!(outcome, Ok(Purpose::Nothing)), "{outcome:?}");
        let told = seen.strip_prefix(declined.as_bytes()).unwrap();
        let text = format!(
            "FATAL 0A000 unsupported frontend protocol 1234.{code}: server supports 3.0 to 3.2"
        );
        assert_eq!(code_and_text(told), [text]);
    }
}

#[tokio::test]
async fn encryption_is_declined_whoever_asks_for_it_and_for_what() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let gss = [0, 0, 0, 8, 4, 210, 22, 48];
    for requests in [[gss, ssl], [ssl, gss]] {
        let mut sent = requests.concat();
        sent.extend(startup(PROTOCOL_3_0, &[ALICE, TODO]));
        sent.extend(password("secret"));
        let (seen, outcome) = at_the_door(&sent).await;
        assert_eq!(seen, b"NNR\0\0\0\x08\0\0\0\x03");
        assert!(
            matches!(outcome, Ok(Purpose::Session { .. })),
            "{outcome:?}"
        );

        // A cancel goes the same way as the connection that it is for.
        let mut sent = requests.concat();
        sent.extend([0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 0, 0, 0, 9]);
        let (seen, outcome) = at_the_door(&sent).await;
        assert_eq!(seen, b"NN");
        let Ok(Purpose::Cancel {
            process_id: 7,
            secret_key,
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(secret_key, [0, 0, 0, 9][..]);
    }
}

#[tokio::test]
async fn every_spelling_of_utf_8_is_accepted() {
    for encoding in ["UTF8", "utf-8", "'utf-8'", "UNICODE"] {
        let mut sent = startup(PROTOCOL_3_0, &[ALICE, TODO, ("client_encoding", encoding)]);
        sent.extend(password("secret"));
        let (_, outcome) = at_the_door(&sent).await;
        assert!(
            matches!(outcome, Ok(Purpose::Session { .. })),
            "{encoding}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_cancel_needs_no_password() {
    // Keys may be longer from protocol 3.2 on.
    for key in [&[0, 0, 0, 9][..], &[7; 32], &[8; 256]] {
        let length = u16::try_from(12 + key.len()).unwrap().to_be_bytes();
        let head = [0, 0, length[0], length[1], 4, 210, 22, 46, 0, 0, 0, 7];
        let (seen, outcome) = at_the_door(&[&head, key].concat()).await;
        assert!(seen.is_empty());
        let Ok(Purpose::Cancel {
            process_id: 7,
            secret_key,
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(secret_key, key);
    }
}

#[tokio::test]
async fn what_is_no_startup_packet_is_refused_unread() {
    let length = "FATAL 08P01 invalid length of startup packet";
    let version = "FATAL 0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.2";
    for (sent, told) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), length),
        (vec![0, 0, 0, 7, 0, 0, 0], length),
        (vec![255; 100], length),
        (startup(2 << 16, &[ALICE]), version),
    ] {
        let (seen, outcome) = at_the_door(&sent).await;
        assert!(matches!(outcome, Ok(Purpose::Nothing)), "{outcome:?}");
        assert_eq!(code_and_text(&seen), [told]);
    }
}

#[tokio::test]
async fn a_client_that_goes_midway_is_told_nothing() {
    for sent in [&b""[..], b"\0\0", b"\0\0\0\x20\0\x03\0\0user"] {
        let (seen, outcome) = at_the_door(sent).await;
        assert!(outcome.is_err() && seen.is_empty(), "{outcome:?}");
    }
}
