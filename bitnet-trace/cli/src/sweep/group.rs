//! The process group of a side: all of it ends when the side ends, when its time is up, and when the sweep itself is
//! killed.
//!
//! The leader of the group is a shell that waits for its standard input to close. The sweep holds the other end, which
//! the system closes even after `kill -9` of the sweep. The shell then kills its group. The standard library has no
//! call that sends a signal to a group, and while the leader lives, no other process can get the number of the group.

use std::io;
use std::process::Command;
#[cfg(unix)]
use std::process::{Child, Stdio};

/// A process group that is killed when this value is dropped. On systems without process groups it is empty.
pub(crate) struct Group {
    #[cfg(unix)]
    leader: Child,
}

#[cfg(unix)]
impl Group {
    pub(crate) fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("sh");
        shell.args(["-c", "read -r _; kill -9 0"]).current_dir("/").process_group(0);
        let leader = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { leader })
    }

    /// Makes the command start its process in the group.
    pub(crate) fn admit(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        if let Ok(group) = i32::try_from(self.leader.id()) {
            command.process_group(group);
        }
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        drop(self.leader.stdin.take());
        let _ = self.leader.wait();
    }
}

#[cfg(not(unix))]
impl Group {
    #[allow(clippy::unnecessary_wraps)] // as on other systems
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {})
    }

    #[allow(clippy::unused_self)] // as on other systems
    pub(crate) fn admit(&self, _: &mut Command) {}
}
