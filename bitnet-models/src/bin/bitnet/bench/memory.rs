//! The memory of this process, as Linux counts it.

use std::fs;

/// Bytes of memory: now, and at most since the process began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    pub(crate) most: u64,
}

impl Resident {
    /// `None` where the system has no `/proc/self/status`.
    pub(crate) fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { now: field("VmRSS:")?, most: field("VmHWM:")? })
    }
}
