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
    let in_force = |name: &str| (name == "DateStyle").then(|| "ISO, MDY".to_owned());
    let outcome = admission.admit(&mut server, in_force).await;
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
    let Ok(Purpose::Session {
        application_name,
        warnings,
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(application_name, "it");
    assert!(warnings.is_empty(), "{warnings:?}");
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
async fn a_newer_protocol_is_negotiated_down() {
    let mut sent = startup((3 << 16) + 2, &[ALICE, TODO]);
    sent.extend(password("secret"));
    let (seen, outcome) = at_the_door(&sent).await;
    assert!(
        matches!(outcome, Ok(Purpose::Session { .. })),
        "{outcome:?}"
    );
    let expected = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0R\0\0\0\x08\0\0\0\x03";
    assert_eq!(seen, expected);

    let mut sent = startup((3 << 16) + 2, &[ALICE, TODO, ("_pq_.test", "1")]);
    sent.extend(password("secret"));
    let (seen, outcome) = at_the_door(&sent).await;
    assert!(
        matches!(outcome, Ok(Purpose::Session { .. })),
        "{outcome:?}"
    );
    let expected = b"v\0\0\0\x16\0\x03\0\0\0\0\0\x01_pq_.test\0R\0\0\0\x08\0\0\0\x03";
    assert_eq!(seen, expected);
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
        assert!(
            matches!(
                outcome,
                Ok(Purpose::Cancel {
                    process_id: 7,
                    secret_key: 9
                })
            ),
            "{outcome:?}"
        );
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
async fn a_setting_that_is_not_so_is_warned_of() {
    let settings = [
        ("DateStyle", "iso"),
        ("TimeZone", "UTC"),
        ("options", "-c geqo=off"),
    ];
    let parameters = [&[ALICE, TODO], &settings[..]].concat();
    let mut sent = startup(PROTOCOL_3_0, &parameters);
    sent.extend(password("secret"));
    let Ok(Purpose::Session { warnings, .. }) = at_the_door(&sent).await.1 else {
        panic!("it was refused");
    };
    let texts: Vec<_> = warnings
        .iter()
        .map(|warning| &warning.message[..])
        .collect();
    assert_eq!(
        texts,
        [
            "the startup parameter \"TimeZone\" has no effect in a shared transaction",
            "the startup parameter \"options\" has no effect in a shared transaction",
        ]
    );
}

#[tokio::test]
async fn a_cancel_needs_no_password() {
    let sent = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 0, 0, 0, 9];
    let (seen, outcome) = at_the_door(&sent).await;
    assert!(seen.is_empty());
    let Ok(Purpose::Cancel {
        process_id: 7,
        secret_key: 9,
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
}

#[tokio::test]
async fn what_is_no_startup_packet_is_refused_unread() {
    let length = "FATAL 08P01 invalid length of startup packet";
    let version = "FATAL 08P01 unsupported frontend protocol 2.0: server supports 3.0 to 3.0";
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
