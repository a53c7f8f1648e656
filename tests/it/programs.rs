//! The programs that come with PostgreSQL, over the socket: what they print there is what they print on a plain server.

use std::collections::VecDeque;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

use tokio::time::timeout;

use crate::socket::{PATIENCE, SCHEMA, count, shared};
use crate::stage::Database;

/// A program that comes with PostgreSQL.
fn program(name: &str) -> Command {
    let mut folders: VecDeque<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.map(|version| version.unwrap().path().join("bin")));
    }
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    let Some(path) = found else {
        panic!("{name} is not installed; run ./scripts/setup, or: apt-get install postgresql");
    };
    let mut command = Command::new(path);
    // What the developer has set is not what is tested.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn psql(url: &str) -> Command {
    let mut command = program("psql");
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", url]);
    command
}

pub(crate) async fn run(mut command: Command) -> Output {
    let task = tokio::task::spawn_blocking(move || command.output().unwrap());
    timeout(PATIENCE, task)
        .await
        .expect("it comes to an end")
        .unwrap()
}

/// What a command prints that must succeed.
pub(crate) async fn output(command: Command) -> String {
    let output = run(command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn psql_and_the_pool_see_what_the_other_wrote() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        assert_eq!(
            url,
            transaction.database_url().unwrap(),
            "one socket is enough"
        );
        let client = transaction.pool().unwrap().get().await.unwrap();
        client
            .execute("INSERT INTO t (v) VALUES ('pool')", &[])
            .await
            .unwrap();

        let mut command = psql(&url);
        command.args([
            "-c",
            "INSERT INTO t (v) VALUES ('psql'); SELECT v FROM t ORDER BY id",
        ]);
        command.args(["-c", "BEGIN; INSERT INTO t (v) VALUES ('undone'); ROLLBACK"]);
        command.args([
            "-c",
            "SELECT count(*) FROM t",
            "-c",
            "SELECT current_setting('application_name')",
        ]);
        assert_eq!(output(command).await, "pool\npsql\n2\npsql\n");
        assert_eq!(
            count(&client, "SELECT count(*) FROM t WHERE v = 'psql'").await,
            1
        );

        let mut failing = psql(&url);
        failing.args(["-c", "INSERT INTO t (v) VALUES ('kept')"]);
        failing.args(["-c", "INSERT INTO t (v) VALUES ('pool')"]);
        let failed = run(failing).await;
        assert_eq!(failed.status.code(), Some(1));
        let errors = String::from_utf8(failed.stderr).unwrap();
        assert!(
            errors.starts_with("ERROR:  duplicate key value violates unique constraint"),
            "{errors}"
        );
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 3);
    })
    .await;
}

#[tokio::test]
async fn psql_runs_a_script() {
    shared(async |transaction| {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("t.csv");
        let script = folder.path().join("seed.sql");
        let text = format!(
            "\\set name milk\n\
             INSERT INTO t (v) VALUES (:'name');\n\
             CREATE TABLE copied (id int, v text);\n\
             \\copy t to '{csv}' csv\n\
             \\copy copied from '{csv}' csv\n\
             COPY copied FROM STDIN;\n2\teggs\n\\.\n\
             \\set ON_ERROR_STOP off\n\
             \\set ON_ERROR_ROLLBACK on\n\
             BEGIN;\n\
             INSERT INTO t (v) VALUES ('bread');\n\
             INSERT INTO t (v) VALUES (:'name');\n\
             INSERT INTO t (v) VALUES ('salt');\n\
             COMMIT;\n\
             SELECT v FROM copied ORDER BY v;\n\
             SELECT v FROM t ORDER BY v;\n\
             SELECT v FROM t WHERE v > 'm' ORDER BY v \\gset last_\n\
             PREPARE one AS SELECT $1::int + 1;\n\
             EXECUTE one(41);\n",
            csv = csv.display()
        );
        std::fs::write(&script, text).unwrap();
        let mut command = psql(&transaction.database_url().unwrap());
        command.arg("-f").arg(&script);
        assert_eq!(output(command).await, "eggs\nmilk\nbread\nmilk\nsalt\n42\n");
    })
    .await;
}

#[tokio::test]
async fn pgbench_runs_as_many_clients() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let mut init = program("pgbench");
        init.args(["-i", "-I", "dtgp", "-s", "1", "-q", &url]);
        output(init).await;
        // One thread for each client: pgbench prepares without looking at its other clients, and one of those may hold the
        // block that this waits for.
        for mode in ["simple", "extended", "prepared"] {
            let mut bench = program("pgbench");
            bench.args(["-n", "-c", "4", "-j", "4", "-t", "25", "-M", mode, &url]);
            let report = output(bench).await;
            assert!(report.contains("number of transactions actually processed: 100/100"), "{report}");
        }
        let client = transaction.pool().unwrap().get().await.unwrap();
        assert_eq!(count(&client, "SELECT count(*) FROM pgbench_history").await, 300);
        let deltas = "SELECT (SELECT sum(delta) FROM pgbench_history) - (SELECT sum(bbalance) FROM pgbench_branches)";
        assert_eq!(count(&client, deltas).await, 0);
    })
    .await;
}

/// Runs psql on a shared transaction and then on a plain server, with these arguments and this script (unless it is
/// empty), and compares all that it prints, and its exit status. Returns what it prints.
async fn same(arguments: &[&str], script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sql");
    let csv = folder.path().join("t.csv");
    std::fs::write(&file, script.replace("@CSV@", csv.to_str().unwrap())).unwrap();
    let play = async |url: &str| {
        let mut command = program("psql");
        command
            .env("LC_ALL", "C")
            .args(["-X", "-d", url])
            .args(arguments);
        if !script.is_empty() {
            command.arg("-f").arg(&file);
        }
        let output = run(command).await;
        format!(
            "{}{}exit status {}\n",
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap()
        )
    };
    let mut seen = String::new();
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let shared = play(&transaction.database_url().unwrap()).await;
        transaction.rollback().await.unwrap();
        let plain = play(&database.settings()).await;
        assert_eq!(shared, plain);
        seen = shared;
    })
    .await;
    seen
}

#[tokio::test]
async fn psql_describes_what_is_there() {
    let seen = same(
        &["-v", "ON_ERROR_STOP=1"],
        "CREATE TABLE made (a int PRIMARY KEY, b text DEFAULT 'x', t int REFERENCES t);\n\
         CREATE VIEW seen AS SELECT a, b FROM made;\n\
         \\d\n\\dt\n\\d t\n\\d made\n\\d+ seen\n\\di\n\\ds\n\\dv\n\\dn\n\\df\n\\dx\n\\encoding\n",
    )
    .await;
    assert!(seen.contains("public | made | table"), "{seen}");
    assert!(seen.ends_with("UTF8\nexit status 0\n"), "{seen}");
}

#[tokio::test]
async fn psql_s_variables_and_ways_to_run_a_query() {
    let seen = same(
        &["-v", "given=7"],
        "SELECT :given AS a, 'two' AS b \\gset got_\n\
         \\echo :got_a :got_b :ROW_COUNT :LAST_ERROR_SQLSTATE\n\
         SELECT 1 AS one, :'got_b'::text AS text \\gdesc\n\
         SELECT 1 AS one, :'got_b' AS text \\gx\n\
         SELECT format('INSERT INTO t (v) VALUES (%L)', v) FROM generate_series(1, 3) v \\gexec\n\
         SELECT v, v || '!' AS w, length(v) FROM t ORDER BY v \\crosstabview v w length\n\
         SELECT nonsense;\n\
         \\echo :ERROR :SQLSTATE :LAST_ERROR_MESSAGE\n\
         \\errverbose\n\
         SELECT count(*) = 3 AS three FROM t \\gset\n\
         \\if :three\n\\echo three\n\\else\n\\echo not three\n\\endif\n\
         \\set FETCH_COUNT 2\n\
         SELECT v FROM generate_series(1, 7) v;\n\
         SELECT 10 / (4 - v) FROM generate_series(1, 7) v;\n\
         BEGIN;\nSELECT v FROM t ORDER BY v;\nROLLBACK;\n\
         \\unset FETCH_COUNT\n\
         \\echo :ERROR\n",
    )
    .await;
    assert!(seen.starts_with("7 two 1 00000\n"), "{seen}");
    assert!(seen.contains("\nthree\n"), "{seen}");
}

#[tokio::test]
async fn psql_copies_both_ways() {
    let seen = same(
        &[],
        "INSERT INTO t (v) VALUES ('milk'), ('eggs, brown'), (NULL);\n\
         CREATE TABLE copied (v text NOT NULL);\n\
         \\copy (SELECT v FROM t ORDER BY v) to '@CSV@' csv header\n\
         \\copy copied from '@CSV@' csv header\n\
         SELECT count(*) FROM copied;\n\
         \\copy copied from '@CSV@' csv header null 'NULL'\n\
         SELECT v FROM copied ORDER BY v;\n\
         COPY copied (v) FROM STDIN;\nbread\nsalt\n\\.\n\
         BEGIN;\nCOPY copied (v) FROM STDIN;\ngone\n\\.\nROLLBACK;\n\
         COPY copied TO STDOUT;\n\
         \\copy nowhere from '@CSV@'\n\
         SELECT count(*) FROM copied;\n",
    )
    .await;
    assert!(seen.contains("eggs, brown"), "{seen}");
    assert!(seen.contains("null value in column"), "{seen}");
}

#[tokio::test]
async fn psql_goes_on_after_an_error_in_a_transaction() {
    for rollback in ["on", "off"] {
        let seen = same(
            &["-v", &format!("ON_ERROR_ROLLBACK={rollback}")],
            "BEGIN;\n\
             INSERT INTO t (v) VALUES ('before');\n\
             INSERT INTO t (v) VALUES ('before');\n\
             SAVEPOINT mine;\n\
             INSERT INTO t (v) VALUES ('undone');\n\
             SELECT nonsense;\n\
             ROLLBACK TO mine;\n\
             INSERT INTO t (v) VALUES ('after');\n\
             RELEASE mine;\n\
             COMMIT;\n\
             SELECT string_agg(v, ',' ORDER BY v) AS kept FROM t;\n",
        )
        .await;
        assert_eq!(seen.contains("after,before"), rollback == "on", "{seen}");
    }
}

#[tokio::test]
async fn psql_stops_where_it_is_told_to() {
    let good = "INSERT INTO t (v) VALUES ('good')";
    let bad =
        "INSERT INTO t (v) VALUES ('bad'); SELECT nonsense; INSERT INTO t (v) VALUES ('never')";
    let list = "SELECT v FROM t ORDER BY v";
    let stop = ["-v", "ON_ERROR_STOP=1"];
    // One -c is one message, so an implicit transaction; -1 puts all of them into one.
    for (arguments, script, ending) in [
        (
            &["-c", good, "-c", bad, "-c", list][..],
            "",
            "(1 row)\n\nERROR",
        ),
        (
            &[stop[0], stop[1], "-c", good, "-c", bad, "-c", list],
            "",
            "INSERT 0 1\nERROR",
        ),
        (&["-1", "-c", good, "-c", bad, "-c", list], "", ""),
        (&["-1", "-c", good, "-c", list], "", "exit status 0\n"),
        (
            &[],
            "INSERT INTO t (v) VALUES ('a');\nSELECT nonsense;\nSELECT v FROM t;\n",
            "exit status 0\n",
        ),
        (
            &stop,
            "INSERT INTO t (v) VALUES ('a');\nSELECT nonsense;\nSELECT v FROM t;\n",
            "exit status 3\n",
        ),
        (
            &["-1"],
            "INSERT INTO t (v) VALUES ('a');\nSELECT nonsense;\nSELECT v FROM t;\n",
            "",
        ),
        (
            &["-1", stop[0], stop[1]],
            "INSERT INTO t (v) VALUES ('a');\nSELECT nonsense;\n",
            "exit status 3\n",
        ),
        (
            &["-1"],
            "INSERT INTO t (v) VALUES ('a');\nSELECT v FROM t;\n",
            "exit status 0\n",
        ),
        (
            &[],
            "INSERT INTO t (v) VALUES ('a')\\; INSERT INTO t (v) VALUES ('b')\\; SELECT nonsense;\nTABLE t;\n",
            "",
        ),
        (
            &[],
            "\\set AUTOCOMMIT off\nINSERT INTO t (v) VALUES ('a');\nSELECT nonsense;\nCOMMIT;\nTABLE t;\n",
            "",
        ),
    ] {
        let seen = same(arguments, script).await;
        assert!(seen.contains(ending), "{arguments:?} {script}: {seen}");
    }
}

#[tokio::test]
async fn pgbench_runs_scripts_of_transactions() {
    const SCRIPT: &str = "\
        \\set n random(1, 1000)\n\
        BEGIN;\n\
        INSERT INTO t (v) VALUES (NULL);\n\
        SAVEPOINT s;\n\
        DELETE FROM t;\n\
        ROLLBACK TO s;\n\
        SELECT count(*) AS before FROM t WHERE :n > 0 \\gset\n\
        COMMIT;\n\
        BEGIN;\n\
        DELETE FROM t;\n\
        ROLLBACK;\n\
        SELECT 1 / (:before > 0)::int;\n";
    const PIPELINE: &str = "\
        \\startpipeline\n\
        BEGIN;\n\
        INSERT INTO t (v) VALUES (NULL);\n\
        INSERT INTO t (v) VALUES (NULL);\n\
        COMMIT;\n\
        SELECT count(*) FROM t;\n\
        \\endpipeline\n";
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script.sql");
        let client = transaction.pool().unwrap().get().await.unwrap();
        let mut rows = 0;
        for (mode, script, each) in [
            ("simple", SCRIPT, 1),
            ("extended", SCRIPT, 1),
            ("prepared", SCRIPT, 1),
            ("extended", PIPELINE, 2),
            ("prepared", PIPELINE, 2),
        ] {
            std::fs::write(&file, script).unwrap();
            let mut bench = program("pgbench");
            // As above, one thread for each client.
            bench.args(["-n", "-c", "4", "-j", "4", "-t", "20", "-M", mode, "-f"]);
            bench.arg(&file).arg(&url);
            let report = output(bench).await;
            assert!(
                report.contains("number of transactions actually processed: 80/80"),
                "{report}"
            );
            rows += 80 * each;
            assert_eq!(
                count(&client, "SELECT count(*) FROM t").await,
                rows,
                "{mode}"
            );
        }
    })
    .await;
}
