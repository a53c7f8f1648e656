//! Live tests in a browser, whose HTTP requests and the test's own statements share the transaction.

use std::error::Error as StdError;
use std::net::TcpListener;

use actix_shareddb::{Error, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
use actix_web::dev::Server;
use fantoccini::{Client, Locator};

use crate::browser::Browser;

/// A test's error may be any, the browser's too.
type Fallible<T> = std::result::Result<T, Box<dyn StdError>>;

#[derive(Default)]
struct GuestBook {
    browser: Option<Browser>,
}

impl LiveServerTestCase for GuestBook {
    fn schema() -> Schema {
        Schema::dir("src")
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(crate::run(listener, pool)?)
    }

    async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
        let browser = self.browser.insert(Browser::open().await?);
        let loaded = browser.client.goto(&live.url("/")).await;
        loaded.map_err(Error::other)
    }

    async fn tear_down(&mut self, _: &LiveServer) -> Result<()> {
        match self.browser.take() {
            Some(browser) => browser.close().await,
            None => Ok(()),
        }
    }
}

impl GuestBook {
    fn browser(&self) -> Fallible<&Client> {
        let browser = self.browser.as_ref();
        Ok(&browser
            .ok_or_else(|| Error::other("`set_up` opens it"))?
            .client)
    }

    /// Fills in the form and presses the button.
    async fn sign(&self, name: &str, words: &str) -> Fallible<()> {
        let form = self.browser()?.form(Locator::Css("form")).await?;
        form.set_by_name("name", name).await?;
        form.set_by_name("words", words).await?;
        self.browser()?
            .find(Locator::Css("button"))
            .await?
            .click()
            .await?;
        Ok(())
    }

    /// The text of an element that comes, at the latest, with the page that is being loaded.
    async fn text(&self, css: &str) -> Fallible<String> {
        let element = self
            .browser()?
            .wait()
            .for_element(Locator::Css(css))
            .await?;
        Ok(element.text().await?)
    }
}

live_server! {
    impl GuestBook {
        async fn who_signs_stands_in_the_book(&mut self, live: &LiveServer) -> Fallible<()> {
            self.sign("Alice", "What a page!").await?;
            assert_eq!(self.text("li").await?, "Alice: What a page!");

            let client = live.pool().get().await?;
            let row = client.query_one("SELECT name, words FROM entries", &[]).await?;
            assert_eq!((row.get(0), row.get(1)), ("Alice", "What a page!"));
            Ok(())
        }

        async fn what_the_test_writes_is_on_the_page(&mut self, live: &LiveServer) -> Fallible<()> {
            let insert = "INSERT INTO entries (name, words) VALUES ('the test', 'was here')";
            live.pool().get().await?.execute(insert, &[]).await?;
            self.browser()?.refresh().await?;
            assert_eq!(self.text("li").await?, "the test: was here");
            Ok(())
        }

        /// A browser is who can tell.
        async fn words_are_no_program(&mut self, _: &LiveServer) -> Fallible<()> {
            let words = "<script>document.title = 'mine'</script>\"><b>&amp;";
            self.sign("Mallory", words).await?;
            assert_eq!(self.text("li span").await?, words);
            assert_eq!(self.browser()?.title().await?, "Guest book");
            Ok(())
        }

        async fn who_has_nothing_to_say_is_asked_again(&mut self, live: &LiveServer) -> Fallible<()> {
            self.sign("\"Bob\"", " ").await?;
            assert_eq!(self.text("#problem:not(:empty)").await?, "Who are you, and what do you have to say?");
            let name = self.browser()?.find(Locator::Css("[name=name]")).await?;
            assert_eq!(name.prop("value").await?.as_deref(), Some("\"Bob\""));

            let client = live.pool().get().await?;
            assert!(client.query("SELECT FROM entries", &[]).await?.is_empty());
            Ok(())
        }
    }
}
