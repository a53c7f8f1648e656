//! What a client could do to the multiplexer by how it calls things, or writes them.

use crate::stage::{A, B, Database, SCHEMA, Stage};

#[tokio::test]
async fn an_encoding_that_could_hide_a_commit_is_refused() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open_with(&database.shared_config()).await;
        let mut stage = Stage::shared(database, &transaction);
        stage.query(A, "SET client_encoding = 'SJIS'").await;
        stage.query(A, "SELECT 1; SET NAMES 'Shift_JIS'").await;
        stage.query(A, "SET LOCAL client_encoding TO big5").await;
        stage.query(A, "SET client_encoding = LATIN1; SHOW client_encoding").await;
        // What a text doesn't show the server tells.
        stage.query(B, "SELECT set_config('client_' || 'encoding', 'GBK', false)").await;
        while stage.next(B).await.is_some() {}
        stage.query(A, "SELECT 'still there'").await;
        let transcript = stage.close().await;
        let told: Vec<_> = transcript
            .iter()
            .filter(|line| line.contains("DataRow") || line.contains("Error"))
            .collect();
        assert_eq!(
            told,
            [
                "A < ErrorResponse ERROR 0A000 \"the client encoding SJIS can't be used in a shared transaction\"",
                "A < DataRow \"1\"",
                "A < ErrorResponse ERROR 0A000 \"the client encoding Shift_JIS can't be used in a shared transaction\"",
                "A < ErrorResponse ERROR 0A000 \"the client encoding big5 can't be used in a shared transaction\"",
                "A < DataRow \"LATIN1\"",
                "B < DataRow \"GBK\"",
                "B < ErrorResponse FATAL 0A000 \"the client encoding GBK can't be used in a shared transaction\"",
                "A < DataRow \"still there\"",
            ]
        );
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn names_that_the_multiplexer_gives_are_reserved() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open_with(&database.shared_config()).await;
        let mut stage = Stage::shared(database, &transaction);
        for sql in [
            "INSERT INTO t(v) VALUES ('kept')",
            "BEGIN",
            "SAVEPOINT actix_shareddb",
            "ROLLBACK",
            "BEGIN",
            "RELEASE actix_shareddb_nested",
            "ROLLBACK",
            "BEGIN; DECLARE \"~0~portal\" CURSOR FOR SELECT 1",
            "ROLLBACK",
            "DECLARE \"~h\" CURSOR WITH HOLD FOR SELECT 1",
            "SELECT 1; SAVEPOINT a",
            "SELECT count(*) FROM t",
        ] {
            stage.query(A, sql).await;
        }
        let transcript = stage.close().await;
        let told: Vec<_> = transcript
            .iter()
            .filter(|line| line.contains("DataRow") || line.contains("Error"))
            .collect();
        let reserved = |what: &str| {
            format!(
                "A < ErrorResponse ERROR 42939 \"{what} is reserved in a shared transaction\" hint \"Choose another name.\""
            )
        };
        assert_eq!(
            told,
            [
                &reserved("savepoint name \\\"actix_shareddb\\\""),
                &reserved("savepoint name \\\"actix_shareddb_nested\\\""),
                &reserved("cursor name \\\"~0~portal\\\""),
                &reserved("cursor name \\\"~h\\\""),
                "A < DataRow \"1\"",
                "A < ErrorResponse ERROR 25P01 \"SAVEPOINT can only be used in transaction blocks\"",
                "A < DataRow \"1\"",
            ]
        );
        transaction.rollback().await.unwrap();
    })
    .await;
}
