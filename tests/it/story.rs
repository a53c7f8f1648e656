//! What a test that has failed tells of itself.

use actix_shareddb::{LiveServer, Result, live_server};
use actix_web::rt;

use crate::live::failures::child;
use crate::queries::{Lists, without_times};

live_server! {
    impl Lists {
        #[ignore = "fails on purpose, under `a_test_that_panics_tells_what_it_did`"]
        async fn panics(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            live.get("/lists").send().await?;
            let mut taken = live.get("/taken").send().await?;
            taken.body().await?;
            let client = live.pool().get().await?;
            client.batch_execute("BEGIN").await?;
            client.execute("UPDATE list SET name = 'c' WHERE id = 1", &[]).await?;
            let other = live.pool().get().await?;
            rt::spawn(async move { other.execute("SELECT 'in vain'", &[]).await });
            live.get("/none").send().await?;
            // All that the other one needs in order to wait is to be polled, which happens on this thread.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            panic!("on purpose");
        }

        #[ignore = "fails on purpose, under `a_test_that_returns_an_error_tells_what_it_did`"]
        async fn returns_an_error(&self, live: &LiveServer) -> Result<(), &'static str> {
            live.get("/broken").send().await.unwrap_err();
            Err("no milk")
        }

        #[ignore = "runs under `a_test_that_passes_tells_nothing`"]
        async fn passes(&self, live: &LiveServer) -> Result<()> {
            live.get("/taken").send().await?;
            Ok(())
        }
    }
}

/// What such a test printed behind this.
fn printed_behind(test: &str, words: &str) -> String {
    let (_, printed) = child(test);
    let (_, behind) = printed.split_once(words).expect(&printed);
    let end = "\n\nfailures:\n";
    let (story, _) = behind.split_once(end).expect(behind);
    without_times(story.trim_end())
}

#[test]
fn a_test_that_panics_tells_what_it_did() {
    let story = printed_behind("story::panics", "\non purpose\n");
    let story = story.split_once("\n\n").expect(&story).1;
    assert_eq!(without_seconds(story), EXPECTED);
}

const EXPECTED: &str = "\
what the test did, and its SQL:

the test
   1  INSERT INTO list VALUES (1, 'a'), (2, 'b')  => INSERT 0 2, _ ms

GET /lists => 200 OK, _ ms
   2  SELECT id FROM list  => SELECT 2, _ ms
   3  SELECT title FROM item WHERE list = $1 AND title <> $2  [1, 'it''s none']  => SELECT 0, _ ms
   4  SELECT title FROM item WHERE list = $1 AND title <> $2  [2, 'it''s none']  => SELECT 0, _ ms

GET /taken => 409 Conflict, _ ms
      list 1 is taken
      START TRANSACTION
   5  INSERT INTO list VALUES (1, 'a')  => ERROR 23505: duplicate key value violates unique constraint \"list_pkey\"
      ROLLBACK

the test
      BEGIN
   6  UPDATE list SET name = 'c' WHERE id = 1  => UPDATE 1, _ ms

GET /none => 204 No Content, _ ms

when it failed:

      session 1 (actix-shareddb) is in a transaction block, begun _ s ago with: BEGIN; its last statement was: \
UPDATE list SET name = 'c' WHERE id = 1
      session 3 (actix-shareddb) has waited _ s for its turn, with: SELECT 'in vain'";

fn without_seconds(text: &str) -> String {
    let words: Vec<_> = text
        .split(' ')
        .map(|word| match word.parse::<f64>() {
            Ok(_) if word.contains('.') => "_",
            _ => word,
        })
        .collect();
    words.join(" ")
}

#[test]
fn a_test_that_returns_an_error_tells_what_it_did() {
    let words = "the test failed: \"no milk\"\nin the server, thread ";
    let story = printed_behind("story::returns_an_error", words);
    let (panic, story) = story.split_once("\n\n").expect(&story);
    assert!(panic.ends_with("\n  a broken handler"), "{panic}");
    let (heading, rest) = story.split_once(" => ").expect(story);
    assert_eq!(heading, "what the test did, and its SQL:\n\nGET /broken");
    let (_, queries) = rest.split_once('\n').expect(rest);
    assert_eq!(queries, "   1  SELECT 'before'  => SELECT 1, _ ms");
}

#[test]
fn a_test_that_passes_tells_nothing() {
    let (code, printed) = child("story::passes");
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains("/taken"), "{printed}");
}
