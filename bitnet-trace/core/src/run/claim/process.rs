//! Finds out whether the process of a run is still alive, from the facts in its `run.json`.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

/// Whether the process of a run is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Ended,
    /// The process belongs to another machine or container, or the system has no `/proc`.
    Unknown,
}

/// A text that identifies this process and the directory that it records into: the boot id of the system, the process
/// namespace, the directory's inode (a copy of the directory has another one), and the time when the process started.
/// `None` if the system has no `/proc`.
pub(crate) fn identity(directory: &Path) -> Option<String> {
    static OWN: OnceLock<Option<String>> = OnceLock::new();
    let start = OWN.get_or_init(|| start_of(std::process::id().into())).as_ref()?;
    Some(format!("{} {} {start}", system()?, inode(directory)?))
}

/// Whether the process that wrote the `run.json` of a directory is alive.
pub(super) fn life(run: &Value, directory: &Path) -> Life {
    if run["complete"] == true {
        return Life::Ended;
    }
    let parts: Vec<_> = run["process_identity"].as_str().unwrap_or_default().split(' ').collect();
    let ([boot, namespace, of_directory, start], Some(process)) = (&parts[..], run["process"].as_u64()) else {
        return Life::Unknown;
    };
    if system() != Some(format!("{boot} {namespace}")) {
        return Life::Unknown;
    }
    let alive = inode(directory).as_deref() == Some(of_directory) && start_of(process).as_deref() == Some(start);
    if alive { Life::Alive } else { Life::Ended }
}

/// The boot id and the process namespace. Process ids can be compared only if both are the same.
fn system() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// The device and inode number of a directory.
#[cfg(unix)]
fn inode(directory: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(directory).ok()?;
    Some(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// Systems without inodes have no `/proc` either.
#[cfg(not(unix))]
fn inode(_: &Path) -> Option<String> {
    None
}

/// The time when a process started, in clock ticks since the boot (proc(5), `/proc/pid/stat`, field 22). `None` for a
/// process that ended, even if its parent has not yet collected its status.
fn start_of(process: u64) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in parentheses and may contain any character.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // The state is field 3.
    if matches!(state, "Z" | "X") { None } else { fields.nth(22 - 4).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Life, identity, life, start_of};

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_told_apart_from_others_with_its_id() {
        let (here, elsewhere) = (std::env::temp_dir(), std::path::PathBuf::from("/"));
        let own = identity(&here).expect("Linux has /proc");
        let life =
            |identity: &str| life(&json!({ "process": std::process::id(), "process_identity": identity }), &here);
        assert_eq!(life(&own), Life::Alive);
        assert_eq!(life(&format!("{own}1")), Life::Ended, "the process id was reused");
        assert_eq!(life(&identity(&elsewhere).expect("a directory")), Life::Ended, "a copy of the directory");
        assert_eq!(life(&format!("x{own}")), Life::Unknown, "another boot");
        assert_eq!(life(""), Life::Unknown, "a run.json of another version");
        let complete = json!({ "process": std::process::id(), "process_identity": own, "complete": true });
        assert_eq!(super::life(&complete, &here), Life::Ended);
    }

    /// The test has not collected the child's status yet, so its process id is still in use.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        assert!(start_of(child.id().into()).is_some());
        child.kill().expect("killed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while start_of(child.id().into()).is_some() {
            assert!(std::time::Instant::now() < deadline, "it still lives");
            std::thread::yield_now();
        }
        child.wait().expect("dead");
    }
}
