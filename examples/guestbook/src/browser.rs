//! A browser without a window, which ends with its test.

use std::io;
use std::process::Stdio;

use actix_shareddb::{Error, Result};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// A browser and the program that drives it.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    /// What the driver says goes somewhere for as long as it says it.
    _said: BufReader<ChildStdout>,
}

impl Browser {
    pub(crate) async fn open() -> Result<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| missing("chromedriver can't be started", &error))?;
        let stdout = driver
            .stdout
            .take()
            .ok_or_else(|| Error::other("it was piped"))?;
        let mut said = BufReader::new(stdout);
        let address = format!("http://127.0.0.1:{}", port(&mut said).await?);
        let options = json!({
            "goog:chromeOptions": {
                // It runs as root in a container, too: it opens no page but the test's own.
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            },
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(options.as_object().cloned().unwrap_or_default())
            .connect(&address)
            .await
            .map_err(|error| missing("Chromium can't be started", &error))?;
        Ok(Self {
            client,
            driver,
            _said: said,
        })
    }

    pub(crate) async fn close(mut self) -> Result<()> {
        self.client.close().await.map_err(Error::other)?;
        self.driver.kill().await?;
        Ok(())
    }
}

/// The driver takes any port that is free, and tells it.
async fn port(said: &mut BufReader<ChildStdout>) -> Result<u16> {
    let mut line = String::new();
    while said.read_line(&mut line).await? > 0 {
        let (_, port) = line.trim_end().rsplit_once(' ').unwrap_or_default();
        if let Some(port) = port.strip_suffix('.')
            && line.contains("started successfully on port")
            && let Ok(port) = port.parse()
        {
            return Ok(port);
        }
        line.clear();
    }
    Err(Error::other(
        "chromedriver ended without a word of its port",
    ))
}

fn missing(what: &str, error: &dyn std::error::Error) -> Error {
    let kind = io::ErrorKind::NotFound;
    let hint = "./scripts/browser installs both, and runs these tests";
    io::Error::new(kind, format!("{what}: {error}; {hint}")).into()
}
