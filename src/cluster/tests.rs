//! What holds between processes. Each user of a cluster is a process of its own: this test binary once more, told to
//! run [`a_user`] and nothing else.

use std::collections::HashSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::account::Account;
use super::share::{Cluster, Held};
use super::{folder, start};
use crate::error::Error;
use crate::signals;

/// Names the folder of the cluster to a process that is to use it.
const HOME: &str = "ACTIX_SHAREDDB_TEST_HOME";

/// In a process that was started as a [`User`]: joins the cluster, and holds it until its input ends. In the test
/// run itself there is no cluster to join, which is what it finds.
#[test]
fn a_user() {
    let Some(home) = env::var_os(HOME) else {
        assert!(Place::new().cluster.hold().is_none());
        return;
    };
    // As the process of a live test does. Whoever runs the tests in the background may have Ctrl-C ignored.
    signals::end_process_when_told().unwrap();
    let cluster = cluster_in(Path::new(&home));
    let _held = cluster.join().unwrap();
    writeln!(io::stdout(), "\njoined {}", postmaster(&cluster)).unwrap();
    let mut told = String::new();
    io::stdin().read_to_string(&mut told).unwrap();
    assert_eq!(told, "", "told to panic");
}

#[test]
fn processes_that_start_at_once_share_one_postmaster() {
    let place = Place::new();
    let mut users: Vec<_> = (0..6).map(|_| place.user()).collect();
    let postmasters: HashSet<_> = users.iter_mut().map(User::joined).collect();
    assert_eq!(postmasters.len(), 1, "{postmasters:?}");
    let group = place.group();
    users.into_iter().for_each(User::leave);
    place.assert_nothing_is_left_of(group);
}

#[test]
fn users_do_not_hand_their_output_to_the_cluster() {
    let place = Place::new();
    let _held = place.cluster.join().unwrap();
    let mut user = place.user();
    user.joined();
    // It reads their output to its end, which a process that they left behind would keep open.
    user.leave();
    let place = Place::new();
    let mut starter = place.user();
    starter.joined();
    starter.leave();
}

#[test]
fn the_default_cluster_is_joined_once_by_a_process() {
    let first = super::join().unwrap();
    let again = super::join().unwrap();
    assert_eq!(first.socket_dir, again.socket_dir);
    assert!(Cluster::of_this_process().unwrap().hold().is_some());
}

#[test]
fn nothing_is_left_when_every_user_is_killed() {
    let place = Place::new();
    let mut users: Vec<_> = (0..3).map(|_| place.user()).collect();
    for user in &mut users {
        user.joined();
    }
    let group = place.group();
    users.into_iter().for_each(User::kill);
    place.assert_nothing_is_left_of(group);
}

#[test]
fn nothing_is_left_after_a_panic() {
    let place = Place::new();
    let mut user = place.user();
    user.joined();
    let group = place.group();
    user.process.stdin.take().unwrap().write_all(b"!").unwrap();
    assert!(!user.process.wait().unwrap().success());
    place.assert_nothing_is_left_of(group);
}

/// It reaches all processes in the foreground of a terminal: those that the tests start, too, unless they are in a group
/// of their own.
#[test]
fn ctrl_c_ends_the_users_and_the_cluster_follows_in_good_order() {
    let place = Place::new();
    let mut user = place.user();
    user.joined();
    let group = place.group();
    // Its end would end the user, too.
    let _input = user.process.stdin.take();
    signal("INT", format!("-{}", user.process.id()));
    assert!(!user.process.wait().unwrap().success());
    place.assert_nothing_is_left_of(group);
    let log = fs::read_to_string(place.cluster.log()).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn installed_extensions_work() {
    let place = Place::new();
    let held = place.cluster.join().unwrap();
    let names =
        "SELECT string_agg(quote_ident(name), ',' ORDER BY name) FROM pg_available_extensions";
    let names = query(&held, names);
    assert!(names.contains("plpgsql"), "{names}");
    for name in names.split(',') {
        query(
            &held,
            &format!("CREATE EXTENSION IF NOT EXISTS {name} CASCADE"),
        );
    }
    let created = "SELECT string_agg(quote_ident(extname), ',' ORDER BY extname) FROM pg_extension";
    assert_eq!(query(&held, created), names);
    place.stop(held);
}

#[test]
fn a_starter_that_is_killed_half_way_leaves_nothing_behind() {
    let place = Place::new();
    let file = |name: &'static str| move |cluster: &Cluster| cluster.folder.join(name).exists();
    let stages: [(&str, Seen<'_>); 4] = [
        ("initdb runs", &file("data.unfinished")),
        ("the run folder is there", &|cluster| {
            cluster.run_folder().is_some_and(|run| run.exists())
        }),
        ("the hold is there", &|cluster| {
            cluster
                .run_folder()
                .is_some_and(|run| run.join("hold").exists())
        }),
        ("the postmaster runs", &file("data/postmaster.pid")),
    ];
    for (stage, reached) in stages {
        let starter = place.user();
        eventually(stage, || reached(&place.cluster));
        starter.kill();
        let held = place.cluster.join().unwrap();
        let group = place.group();
        assert_eq!(query(&held, "SELECT 1"), "1", "{stage}");
        drop(held);
        place.assert_nothing_is_left_of(group);
    }
}

#[test]
fn databases_are_kept_between_runs() {
    let place = Place::new();
    let held = place.cluster.join().unwrap();
    query(&held, "CREATE TABLE kept AS SELECT 7 AS number");
    place.stop(held);
    let held = place.cluster.join().unwrap();
    assert_eq!(query(&held, "SELECT number FROM kept"), "7");
}

#[test]
fn a_cluster_that_lost_its_supervisor_and_postmaster_recovers() {
    let place = Place::new();
    let held = place.cluster.join().unwrap();
    query(&held, "CREATE TABLE kept AS SELECT 7 AS number");
    query(&held, "CHECKPOINT");
    let run = held.run.clone();
    for process in place.group().processes() {
        signal("KILL", process);
    }
    let held = place.cluster.join().unwrap();
    assert_eq!(query(&held, "SELECT number FROM kept"), "7");
    assert!(!run.exists(), "{} was left", run.display());
}

#[test]
fn what_an_operating_system_that_crashed_left_is_made_anew() {
    let place = Place::new();
    let boot = place.cluster.folder.join("boot");
    let crash = |held: Held| {
        let group = place.group();
        for process in group.processes() {
            signal("KILL", process);
        }
        eventually("all are dead", || group.processes().is_empty());
        drop(held);
    };
    let held = place.cluster.join().unwrap();
    query(&held, "CREATE TABLE kept AS SELECT 7 AS number");
    query(&held, "CHECKPOINT");
    // Stopped in good order, it survives a reboot.
    place.stop(held);
    fs::write(&boot, "another boot").unwrap();
    let held = place.cluster.join().unwrap();
    assert_eq!(query(&held, "SELECT number FROM kept"), "7");

    crash(held);
    fs::write(&boot, "another boot").unwrap();
    let held = place.cluster.join().unwrap();
    assert_eq!(query(&held, "SELECT to_regclass('kept') IS NULL"), "t");
    place.stop(held);
}

#[test]
fn a_damaged_data_folder_is_made_anew() {
    let place = Place::new();
    let data = place.cluster.data();
    let damages: [(&str, bool, &dyn Fn()); 6] = [
        ("none", true, &|| {}),
        ("no version", false, &|| {
            fs::remove_file(data.join("PG_VERSION")).unwrap();
        }),
        ("another version", false, &|| {
            fs::write(data.join("PG_VERSION"), "8.4\n").unwrap();
        }),
        ("no control file", false, &|| {
            fs::remove_file(data.join("global/pg_control")).unwrap();
        }),
        ("a control file of nothing", false, &|| {
            fs::write(data.join("global/pg_control"), [0; 8192]).unwrap();
        }),
        // With which the postmaster starts, and takes connections.
        ("no version of a database", false, &|| {
            for database in fs::read_dir(data.join("base")).unwrap() {
                let version = database.unwrap().path().join("PG_VERSION");
                fs::remove_file(version).unwrap();
            }
        }),
    ];
    place.stop(place.cluster.join().unwrap());
    for (damage, is_kept, inflict) in damages {
        let marker = data.join("marker");
        fs::write(&marker, "").unwrap();
        inflict();
        let held = place.cluster.join().unwrap();
        assert_eq!(marker.exists(), is_kept, "{damage}");
        assert_eq!(query(&held, "SELECT 1"), "1", "{damage}");
        place.stop(held);
    }
}

#[test]
fn a_server_that_can_not_start_says_why() {
    let place = Place::new();
    let mut cluster = cluster_in(&place.home);
    // Programs of which `initdb` works and `postgres` does not.
    let bin = place.home.join("bin");
    let made = Command::new("sh")
        .arg("-c")
        .arg(
            r#"mkdir "$0" && chmod 755 "$0" && ln -s "$1" "$0/initdb" && cd "$0" &&
            cat >postgres <<'END' && chmod 755 postgres
#!/bin/sh
case $1 in
    --version) echo "postgres (PostgreSQL) 15.1" ;;
    *) echo no luck today >&2; exit 3 ;;
esac
END
            "#,
        )
        .args([&bin, &cluster.installation.program("initdb")])
        .status()
        .unwrap();
    assert!(made.success());
    place.stop(place.cluster.join().unwrap());
    cluster.installation.bin = bin;

    // `initdb` finds its `postgres` by its own name, past the link.
    let told = format!("{:?}", cluster.join().unwrap_err());
    assert!(told.contains("no luck today"), "{told}");
    assert!(told.contains("DATABASE_URL"), "{told}");
    // A failure leaves nothing that the next one would stumble over.
    place.cluster.join().unwrap();
}

#[test]
fn what_the_system_denies_is_told_with_a_remedy() {
    let Place { cluster, .. } = &Place::new();
    let folder = cluster.folder.display();
    for (said, remedy) in [
        (
            "initdb: error: could not write file: No space left on device",
            format!("free some space for {folder} and for the temporary folder"),
        ),
        (
            "FATAL:  could not create any Unix-domain sockets",
            "set TMPDIR to a folder in which this user may create a socket".to_owned(),
        ),
        (
            "FATAL:  could not create shared memory segment: Cannot allocate memory",
            "allow more shared memory (kern.sysv.shmmni and kern.sysv.shmall on macOS)".to_owned(),
        ),
        (
            "initdb: error: could not access directory: Permission denied",
            format!("see that the server's user can reach {folder} and /dev/null"),
        ),
        (
            "FATAL:  something else",
            format!("the whole log is in {folder}/log"),
        ),
    ] {
        fs::write(cluster.log(), said).unwrap();
        let told = format!("{:?}", start::explain(Error::new("it failed"), cluster));
        let expected =
            format!("it failed\n  help: {remedy}; or set DATABASE_URL to a server that runs");
        assert_eq!(told, expected);
    }
}

#[test]
fn a_full_disk_is_told_wherever_it_is_met() {
    let place = Place::new();
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let error = start::remedy(place.cluster.failed("write", "run", full), &place.cluster);
    let folder = place.cluster.folder.display();
    assert_eq!(
        format!("{error:?}"),
        format!(
            "failed to write {folder}/run\n  caused by: no storage space\n  help: free some space for {folder} and for \
            the temporary folder; or set DATABASE_URL to a server that runs"
        )
    );
}

#[test]
fn a_killed_postmaster_is_replaced() {
    let place = Place::new();
    let mut user = place.user();
    let killed = user.joined();
    let held = place.cluster.join().unwrap();
    assert!(held.is_watched());
    signal("KILL", killed);
    eventually("the hold tells that the postmaster is gone", || {
        !held.is_watched()
    });
    let new = place.cluster.join().unwrap();
    assert_ne!(postmaster(&place.cluster), killed);
    assert_eq!(query(&new, "SELECT 1"), "1");
    assert!(!held.run.exists());
}

#[test]
fn any_process_of_the_supervisor_may_be_killed() {
    let place = Place::new();
    for nth in 0..3 {
        let held = place.cluster.join().unwrap();
        let group = place.group();
        let shells = group.shells();
        assert_eq!(shells.len(), 3, "{shells:?}");
        signal("KILL", shells[nth]);
        drop(held);
        place.assert_nothing_is_left_of(group);
    }
}

#[test]
fn a_postmaster_without_a_supervisor_is_replaced() {
    let place = Place::new();
    let held = place.cluster.join().unwrap();
    let orphan = postmaster(&place.cluster);
    // The postmaster may answer before all of them have been forked.
    eventually("three shells supervise", || {
        place.group().shells().len() == 3
    });
    let mut shells = place.group().shells();
    shells.sort_unstable();
    // They are halted first, so that none of them sees another one die. The oldest, whose children the others are, goes
    // last: a group that has lost its parent is told to continue.
    for name in ["STOP", "KILL"] {
        for &shell in shells.iter().rev() {
            signal(name, shell);
        }
    }
    eventually("nobody reads the hold", || !held.is_watched());
    assert_eq!(query(&held, "SELECT 1"), "1");

    let new = place.cluster.join().unwrap();
    assert_ne!(postmaster(&place.cluster), orphan);
    assert_eq!(query(&new, "SELECT 1"), "1");
}

#[test]
fn a_process_that_joins_while_the_cluster_stops_gets_a_running_one() {
    let place = Place::new();
    let mut held = place.cluster.join().unwrap();
    // Without lingering, each round meets the stop at another moment.
    for round in 0..40 {
        drop(held);
        thread::sleep(Duration::from_millis(round % 20));
        held = place.cluster.join().unwrap();
        assert_eq!(query(&held, "SELECT 1"), "1", "round {round}");
    }
    place.stop(held);
}

/// Whether a start has come as far as this.
type Seen<'a> = &'a dyn Fn(&Cluster) -> bool;

/// A folder of its own, with the cluster in it. It is gone with the value.
struct Place {
    cluster: Cluster,
    home: PathBuf,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let temporary = TempDir::new().unwrap();
        let account = Account::of_this_process().unwrap();
        let home = folder::private(temporary.path().to_path_buf(), account).unwrap();
        Self {
            cluster: cluster_in(&home),
            home,
            _folder: temporary,
        }
    }

    fn user(&self) -> User {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "cluster::tests::a_user", "--nocapture"])
            .env(HOME, &self.home)
            // As a shell does with what it starts.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        User { process, said }
    }

    /// The processes of the running cluster.
    fn group(&self) -> Group {
        let postmaster = postmaster(&self.cluster);
        let number = processes()
            .iter()
            .find(|process| process.number == postmaster)
            .expect("the postmaster runs")
            .group;
        Group { number, postmaster }
    }

    fn stop(&self, held: Held) {
        let group = self.group();
        drop(held);
        self.assert_nothing_is_left_of(group);
    }

    fn assert_nothing_is_left_of(&self, group: Group) {
        let alive = OpenOptions::new()
            .write(true)
            .open(self.cluster.folder.join("alive.lock"))
            .unwrap();
        eventually("the server is gone", || alive.try_lock().is_ok());
        eventually("the supervisor is gone", || group.processes().is_empty());
        let run = self.cluster.run_folder().unwrap();
        eventually("the run folder is gone", || !run.exists());
    }
}

impl Drop for Place {
    /// The data must not be removed under a server that still runs.
    fn drop(&mut self) {
        if let Ok(alive) = fs::File::open(self.cluster.folder.join("alive.lock"))
            && !thread::panicking()
        {
            eventually("the server is gone", || alive.try_lock().is_ok());
        }
    }
}

/// A process that holds the cluster.
struct User {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl User {
    /// Waits until it has joined, and gives the postmaster that it met.
    fn joined(&mut self) -> u32 {
        self.said
            .by_ref()
            .lines()
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("joined ")?.parse().unwrap()))
            .expect("the process joins")
    }

    fn leave(mut self) {
        drop(self.process.stdin.take());
        self.said.read_to_end(&mut Vec::new()).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A supervisor and its postmaster.
#[derive(Clone, Copy)]
struct Group {
    number: u32,
    postmaster: u32,
}

impl Group {
    fn processes(self) -> Vec<u32> {
        processes()
            .iter()
            .filter(|process| process.group == self.number)
            .map(|process| process.number)
            .collect()
    }

    fn shells(self) -> Vec<u32> {
        let mut shells = self.processes();
        shells.retain(|&process| process != self.postmaster);
        shells
    }
}

struct Process {
    number: u32,
    group: u32,
}

/// All processes that run, without those that have ended and wait for their parent to notice.
fn processes() -> Vec<Process> {
    let listed = Command::new("ps")
        .args(["-A", "-o", "pid=", "-o", "pgid=", "-o", "stat="])
        .output()
        .unwrap();
    assert!(listed.status.success());
    String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let number = fields.next()?.parse().unwrap();
            let group = fields.next()?.parse().unwrap();
            (!fields.next()?.starts_with('Z')).then_some(Process { number, group })
        })
        .collect()
}

fn cluster_in(home: &Path) -> Cluster {
    Cluster::kept_in(home, Account::of_this_process().unwrap(), 0).unwrap()
}

/// The process number of the postmaster.
fn postmaster(cluster: &Cluster) -> u32 {
    let file = fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// Signals a process, or with a minus a whole group.
fn signal(name: &str, process: impl ToString) {
    let status = Command::new("kill")
        .args([format!("-{name}"), "--".to_owned(), process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The first value of the first row, if there is one.
fn query(held: &Held, sql: &str) -> String {
    let address = held.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&address.socket_dir)
            .port(address.port)
            .user(&address.user)
            .dbname("postgres")
            .connect(NoTls)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let answer = client.simple_query(sql).await.unwrap();
        drop(client);
        // How it ends is of no interest: the server may be going down.
        let _ = connection.await.unwrap();
        answer
            .iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .unwrap_or_default()
    })
}

/// Waits for what must happen, and fails by name if it does not.
#[track_caller]
fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happens() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
