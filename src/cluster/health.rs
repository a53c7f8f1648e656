//! Whether what was kept can still be relied on: the cluster isn't durable, and disks have their accidents.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::share::{Cluster, PID_FILE};
use super::{initdb, start};
use crate::error::Result;

/// Whether the operating system went down while the cluster ran. What it had not written by then is lost, in any part
/// of any file, and PostgreSQL would not notice.
pub(super) fn has_crashed_with_the_system(cluster: &Cluster) -> bool {
    // A postmaster that ends in good order removes its file.
    let was_running = cluster.data().join(PID_FILE).exists();
    let noted = fs::read_to_string(cluster.folder.join(BOOT)).unwrap_or_default();
    was_running && boot_id().is_some_and(|boot| !noted.is_empty() && boot != noted)
}

/// Notes for [`has_crashed_with_the_system`] when it is that the cluster runs.
pub(super) fn note_boot(cluster: &Cluster) -> Result<()> {
    fs::write(cluster.folder.join(BOOT), boot_id().unwrap_or_default())
        .map_err(|error| cluster.failed("write", BOOT, error))
}

/// What the operating system calls its life since it was started; nothing where it doesn't tell.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

/// Whether the postmaster of a run folder yields a session: it starts over damaged files that its backends stumble over.
pub(super) fn yields_a_session(run: &Path) -> io::Result<bool> {
    let mut socket = UnixStream::connect(start::socket(run))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = BytesMut::new();
    let parameters = [("user", initdb::SUPERUSER), ("database", "postgres")];
    frontend::startup_message(parameters, &mut bytes)?;
    socket.write_all(&bytes)?;
    bytes.clear();
    loop {
        match Message::parse(&mut bytes)? {
            Some(Message::ReadyForQuery(_)) => {
                frontend::terminate(&mut bytes);
                socket.write_all(&bytes)?;
                return Ok(true);
            }
            Some(Message::ErrorResponse(_)) => return Ok(false),
            Some(_) => {}
            None => {
                let mut chunk = [0; 1024];
                match socket.read(&mut chunk)? {
                    0 => return Ok(false),
                    read => bytes.extend_from_slice(&chunk[..read]),
                }
            }
        }
    }
}

const BOOT: &str = "boot";

/// How long a new backend may take, on a machine that is busy with compiling.
const PATIENCE: Duration = Duration::from_secs(30);
