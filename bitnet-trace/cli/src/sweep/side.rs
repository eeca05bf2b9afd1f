//! Runs one side of a scenario.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::group::Group;
use super::plan::{DIR, Side};
use super::template::Values;

/// The time between two looks at a process. They start short, because small models run in milliseconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// How much of the end of a log is shown: bytes read, and lines.
const END_OF_LOG: (u64, usize) = (4096, 5);

impl Side {
    /// Runs the command until it ends, with its output in the log. The error says how it failed.
    pub(crate) fn run(&self, values: &Values, log: &Path, working_directory: &Path) -> Result<(), String> {
        let mut words = self.command.iter().map(|template| template.fill(values)).collect::<Result<Vec<_>, _>>()?;
        let program = program(words.remove(0), working_directory);
        let cannot = |what: &str, error: &io::Error| format!("cannot {what}: {error}");
        let output = File::create(log).map_err(|error| cannot(&format!("create {}", log.display()), &error))?;
        let errors = output.try_clone().map_err(|error| cannot("share the log", &error))?;

        let mut command = Command::new(&program);
        command.args(words).current_dir(working_directory);
        command.env("BITNET_TRACE_FORMAT", "jsonl").env(DIR, values.dir);
        for (name, template) in &self.env {
            command.env(name, template.fill(values)?);
        }
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let group = Group::start().map_err(|error| cannot("start `sh`", &error))?;
        group.admit(&mut command);
        let mut child =
            command.spawn().map_err(|error| cannot(&format!("start `{}`", program.to_string_lossy()), &error))?;
        let ended = wait(&mut child, self.timeout);
        // What the program left running would still write into the trace.
        drop(group);
        let _ = child.kill();
        let _ = child.wait();
        match (ended, self.timeout) {
            (Err(error), _) => Err(cannot("wait for the process", &error)),
            (Ok(None), Some(timeout)) => {
                Err(format!("did not end within {} and was killed", humantime::format_duration(timeout)))
            }
            (Ok(Some(status)), _) if !status.success() => Err(described(status)),
            (Ok(_), _) => Ok(()),
        }
    }
}

/// A program with a path is relative to the directory of the plan, like everything else. A bare name is searched for.
fn program(written: OsString, directory: &Path) -> OsString {
    let path = PathBuf::from(&written);
    if path.components().count() > 1 || path.has_root() || path.starts_with(".") {
        directory.join(path).into_os_string()
    } else {
        written
    }
}

/// Waits until the process ends; `None` if its time is up first.
fn wait(child: &mut Child, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let [mut pause, longest] = PAUSES;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
        pause = (pause * 2).min(longest);
    }
}

fn described(status: ExitStatus) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return format!("was killed by signal {signal}");
        }
    }
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => format!("ended with {status}"),
    }
}

/// The last lines of a log.
pub(crate) fn end_of(log: &Path) -> Vec<String> {
    let (bytes, lines) = END_OF_LOG;
    let end = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        Ok(end)
    };
    let text = String::from_utf8_lossy(&end().unwrap_or_default()).into_owned();
    let all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}
