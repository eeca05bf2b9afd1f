//! `bitnet-trace init FILE..`

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use bitnet_trace_annotate::{Annotated, MAX_BYTES, Reason, Style, annotate};
use bitnet_trace_core::report::printable;
use clap::Args;
use serde::Serialize;
use similar::TextDiff;

use crate::outcome::{FAILED, Outcome, WithSchema};

/// Annotates the source of a model: puts `#[traced(..)]` on the functions that return tensors
///
/// Prints what would change as a unified diff; `--write` changes the files. Text is only added: a line above each
/// function, and one `use`. A method named `forward` gets the name of its type as its stage, the `for` loop over the
/// blocks of the model counts the layers, and the argument that holds the position becomes the step. Functions that
/// are annotated already stay as they are.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Init {
    /// Rust source files. Of a directory every `.rs` file below it is read; hidden directories, those with a
    /// `CACHEDIR.TAG` (as `target` has) and symbolic links are left out
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change the files instead of printing the difference
    #[arg(long)]
    write: bool,
    /// Print one JSON object, whose field `schema` is `bitnet-trace/init/1`
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  bitnet-trace init src/model.rs
  bitnet-trace init --write src/model.rs
  bitnet-trace init src | patch -p1

Exit codes:
  0  everything was read, and written with --write; also if there was nothing to annotate
  2  wrong usage, or a file that cannot be read, is not Rust, or cannot be written (the others are still done)";

/// The version of the output of `--json`.
const SCHEMA: &str = "bitnet-trace/init/1";

/// What is to be done after the files were changed.
const NEXT: &str = "next: `cargo add bitnet-trace --features trace`, then run the program with BITNET_TRACE_DIR=traces";

#[derive(Serialize)]
struct Report {
    files: Vec<FileReport>,
}

/// A file, as `--json` shows it.
#[derive(Serialize, Default)]
struct FileReport {
    path: String,
    /// Why the file was not read or written.
    error: Option<String>,
    /// Whether the file on disk was changed.
    written: bool,
    functions: Vec<FunctionReport>,
    passed_over: Vec<PassedOverReport>,
    diff: String,
    #[serde(skip)]
    from_directory: bool,
}

#[derive(Serialize)]
struct FunctionReport {
    name: String,
    line: usize,
    attribute: String,
    note: Option<String>,
}

#[derive(Serialize)]
struct PassedOverReport {
    function: String,
    line: usize,
    reason: String,
    #[serde(skip)]
    annotated: bool,
}

impl Init {
    pub(crate) fn execute(&self) -> Outcome {
        let mut report = Report { files: Vec::new() };
        let mut seen = HashSet::new();
        for argument in &self.files {
            let from_directory = argument.is_dir();
            let found = if from_directory { sources(argument) } else { vec![Ok(argument.clone())] };
            for path in found {
                let (path, unreadable) = match path {
                    Ok(path) => (path, None),
                    Err((path, error)) => (path, Some(error)),
                };
                // A file that is named twice is done once.
                if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                    continue;
                }
                let path_shown = path.display().to_string();
                let mut file =
                    FileReport { path: path_shown, error: unreadable, from_directory, ..FileReport::default() };
                if file.error.is_none() {
                    file.error = self.annotate(&path, &mut file).err();
                }
                if !self.json {
                    print(&file.diff)?;
                }
                report.files.push(file);
            }
        }
        if self.json {
            let mut out = anstream::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &WithSchema { schema: SCHEMA, content: &report })?;
            writeln!(out)?;
        }
        self.summarize(&report);
        let failed = report.files.iter().any(|file| file.error.is_some());
        Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
    }

    fn annotate(&self, path: &Path, report: &mut FileReport) -> Result<(), String> {
        let source = read(path)?;
        let Annotated { source: annotated, functions, passed_over, .. } =
            annotate(&source, Style::Init).map_err(|error| crate::with_reasons(&error))?;
        report.functions = functions
            .into_iter()
            .map(|function| FunctionReport {
                name: function.name,
                line: function.line,
                attribute: function.attribute,
                note: function.note,
            })
            .collect();
        report.passed_over = passed_over
            .into_iter()
            .map(|passed| PassedOverReport {
                function: passed.function,
                line: passed.line,
                reason: passed.reason.to_string(),
                annotated: passed.reason == Reason::Annotated,
            })
            .collect();
        if annotated == source {
            return Ok(());
        }
        if self.write {
            replace(path, &annotated)?;
            report.written = true;
        }
        if self.json || !self.write {
            report.diff = unified_diff(path, &source, &annotated);
        }
        Ok(())
    }

    /// A line a file on standard error, and what to do next.
    fn summarize(&self, report: &Report) {
        let mut err = anstream::stderr().lock();
        let mut say = |line: &str| {
            let _ = writeln!(err, "{}", printable(line));
        };
        let mut changes = false;
        let mut without = 0;
        for file in &report.files {
            match &file.error {
                Some(error) => say(&format!("error: {}: {error}", file.path)),
                None if file.from_directory && file.functions.is_empty() && file.passed_over.is_empty() => without += 1,
                None => say(&format!("{}: {}", file.path, file.summary())),
            }
            changes |= file.error.is_none() && !file.functions.is_empty();
        }
        if without > 0 {
            say(&format!("{} without a function that returns a tensor", counted(without, "file")));
        }
        if report.files.is_empty() {
            say("no `.rs` file was found");
        }
        if changes && self.write {
            say(NEXT);
        } else if changes && !self.json {
            say("next: `bitnet-trace init --write ..` changes the files");
        }
    }
}

impl FileReport {
    fn summary(&self) -> String {
        let annotated = self.passed_over.iter().filter(|passed| passed.annotated).count();
        if self.functions.is_empty() && self.passed_over.is_empty() {
            return "no function returns a tensor".to_owned();
        }
        let done = if self.written { "annotated" } else { "to annotate" };
        let mut parts = vec![format!("{} {done}", counted(self.functions.len(), "function"))];
        if annotated > 0 {
            parts.push(format!("{annotated} annotated already"));
        }
        let passed_over = self.passed_over.iter().filter(|passed| !passed.annotated);
        parts.extend(
            passed_over
                .map(|passed| format!("passed over `{}` (line {}): {}", passed.function, passed.line, passed.reason)),
        );
        parts.extend(self.functions.iter().filter_map(|function| {
            let note = function.note.as_ref()?;
            Some(format!("`{}` (line {}): {note}", function.name, function.line))
        }));
        parts.join("; ")
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A path to read, or the path that could not be listed and why.
type Found = Result<PathBuf, (PathBuf, String)>;

/// The files that an argument stands for, those of a directory in the order of their names.
fn sources(argument: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut pending = vec![argument.to_owned()];
    while let Some(directory) = pending.pop() {
        match list(&directory) {
            Ok((files, directories)) => {
                found.extend(files.into_iter().map(Ok));
                pending.extend(directories.into_iter().rev());
            }
            Err(error) => found.push(Err((directory, format!("cannot read the directory: {error}")))),
        }
    }
    found
}

/// The source files and the directories in a directory, by name. Neither is followed through a symbolic link, which may
/// lead back here.
fn list(directory: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        } else if kind.is_dir() && !path.join("CACHEDIR.TAG").exists() {
            directories.push(path);
        }
    }
    files.sort();
    directories.sort();
    Ok((files, directories))
}

/// The text of a file. What is longer than a source file is not read to its end.
fn read(path: &Path) -> Result<String, String> {
    // Opening anything else, such as a pipe, may wait forever.
    if !fs::metadata(path).map_err(|error| format!("cannot read it: {error}"))?.is_file() {
        return Err("not a file; expected a Rust source file or a directory".to_owned());
    }
    let file = File::open(path).map_err(|error| format!("cannot read it: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read it: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
        format!("line {line}: not UTF-8 (byte {at}); expected Rust source text")
    })
}

/// Replaces a file by one with the new text, owner and permissions kept: at no time is there half a file. Where the path
/// is a symbolic link, the file that it leads to is replaced.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot write it: {error}; the file is unchanged");
    let path = path.canonicalize().map_err(cannot)?;
    let metadata = fs::metadata(&path).map_err(cannot)?;
    if metadata.permissions().readonly() {
        return Err("the file is read-only; make it writable to annotate it".to_owned());
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".bitnet-trace-init").tempfile_in(directory).map_err(cannot)?;
    new.write_all(text.as_bytes()).map_err(cannot)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Only the superuser may give a file away. For everybody else it is theirs already, or stays theirs.
        let _ = fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    }
    new.as_file().set_permissions(metadata.permissions()).map_err(cannot)?;
    new.as_file().sync_all().map_err(cannot)?;
    new.persist(&path).map_err(|error| cannot(error.error))?;
    Ok(())
}

fn unified_diff(path: &Path, old: &str, new: &str) -> String {
    let name = |side: &str| {
        let prefix = if path.is_absolute() { "" } else { side };
        printable(&format!("{prefix}{}", path.display())).into_owned()
    };
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().header(&name("a/"), &name("b/")).to_string()
}

/// Prints a diff: as it is into a file or a pipe, in colours and with control characters escaped on a terminal.
fn print(diff: &str) -> io::Result<()> {
    let stdout = io::stdout();
    let escapes = stdout.is_terminal();
    let colours = AutoStream::choice(&stdout) != ColorChoice::Never;
    if !escapes && !colours {
        return stdout.lock().write_all(diff.as_bytes());
    }
    let mut out = AutoStream::auto(stdout.lock());
    for line in diff.lines() {
        let line: String = line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
        let style = match line.as_bytes() {
            [b'+', b'+', ..] | [b'-', b'-', ..] => anstyle::Style::new().bold(),
            [b'+', ..] => AnsiColor::Green.on_default(),
            [b'-', ..] => AnsiColor::Red.on_default(),
            [b'@', ..] => AnsiColor::Cyan.on_default(),
            _ => anstyle::Style::new(),
        };
        writeln!(out, "{style}{line}{style:#}")?;
    }
    Ok(())
}
