//! psycopg, with which most of Python talks to PostgreSQL, by way of its C library.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::timeout;

use crate::ground::same;

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_works_as_on_a_plain_server() {
    let said = same(async |url| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = folder.join("../target/python-clients/bin/python");
        assert!(
            python.is_file(),
            "psycopg is not installed for these tests; run: ./scripts/clients"
        );
        let mut command = Command::new(python);
        command.arg(folder.join("tests/it/program.py")).arg(url);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let task = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = timeout(PATIENCE, task).await.expect("it comes to an end");
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}\n{errors}");
        said + &errors
    })
    .await;
    assert!(said.ends_with("the end\n"), "{said}");
}
