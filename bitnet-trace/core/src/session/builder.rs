//! `TraceSession`: recording by program, whatever the environment says.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Plain, Session, TensorLibrary, abort, environment, state};
use crate::context::TraceContext;
use crate::error::Error;
use crate::failing::locked;
use crate::record::Loss;
use crate::run::config::{Capture, Config, Format, parse_filter};
use crate::run::{Library, Run};
use crate::trace::Trace;

/// Records what runs inside [`in_scope`](Self::in_scope), whatever the environment says: two
/// configurations in one process, traces in unit tests.
///
/// ```
/// use bitnet_trace_core::digest::{Elements, TensorView};
/// use bitnet_trace_core::session::{TraceSession, record};
///
/// let session: TraceSession = TraceSession::builder().in_memory().start()?;
/// session.in_scope(|| {
///     let logits = [2f32, 4.0];
///     let view = TensorView::contiguous(Elements::F32(&logits), &[1, 2])?;
///     record("logits", &view);
///     Ok::<(), bitnet_trace_core::Error>(())
/// })?;
/// let trace = session.finish().expect("nothing was lost");
/// assert_eq!(trace.records()[0].stage.as_deref(), Some("logits"));
/// assert_eq!(trace.records()[0].max, Some(4.0));
/// # Ok::<(), bitnet_trace_core::Error>(())
/// ```
///
/// `L` is the tensor library that `run.json` tells of.
#[must_use = "a session records only inside `in_scope`"]
#[derive(Debug)]
pub struct TraceSession<L = Plain> {
    session: Arc<Session>,
    library: PhantomData<fn() -> L>,
}

impl<L: TensorLibrary> TraceSession<L> {
    /// Begins to configure a session.
    pub fn builder() -> TraceSessionBuilder<L> {
        TraceSessionBuilder {
            destination: Destination::None,
            config: Config::default(),
            format: None,
            filter: None,
            capture: None,
            print: None,
            library: PhantomData,
        }
    }

    /// A session that records nothing: inside its scope tracing is off, whatever the environment
    /// says.
    pub fn disabled() -> Self {
        Self::live(Session::new(None, Config::default()))
    }

    fn live(session: Session) -> Self {
        state::began();
        Self { session: Arc::new(session), library: PhantomData }
    }

    /// Calls `f`; what annotated functions do inside, on this thread and in contexts taken from it,
    /// is recorded by this session.
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        TraceContext::of_session(Arc::clone(&self.session) as _).in_scope(f)
    }

    /// Where the records lie. It differs from the directory asked for where that one belongs to
    /// another process or to something else. None in memory.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.session.run.as_ref()?.directory()
    }

    /// Ends the session and gives what it recorded, in execution order, read back from where it lies.
    /// No file stays open. What contexts carried out of the session do later is not recorded.
    ///
    /// # Errors
    ///
    /// [`FinishError`] if anything was lost, is no longer in the directory, or cannot be read back; it
    /// lists what, and holds the rest.
    pub fn finish(self) -> Result<Trace, FinishError> {
        self.session.stop();
        let mut problems = Vec::new();
        let mut trace = self.recorded(&mut problems);
        problems.append(&mut trace.take_problems());
        let losses = self.session.losses.list();
        if losses.is_empty() && problems.is_empty() {
            Ok(trace)
        } else {
            Err(FinishError(Box::new(Unfinished { trace, losses, problems })))
        }
    }

    fn recorded(&self, problems: &mut Vec<Error>) -> Trace {
        let Session { run: Some(run), own: Some(own), .. } = &*self.session else { return Trace::default() };
        let Some(directory) = run.directory() else { return Trace::in_memory(run.take_memory()) };
        problems.extend(run.write_manifest(None).err());
        locked(own).trace(directory)
    }
}

impl<L> Drop for TraceSession<L> {
    fn drop(&mut self) {
        if let Some(run) = &self.session.run {
            run.in_session.store(false, Ordering::Release);
        }
        self.session.close();
        state::ended();
    }
}

/// Configures a [`TraceSession`]: the words are those of the environment's variables, whose values
/// play no part unless [`environment`](Self::environment) is called.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct TraceSessionBuilder<L = Plain> {
    destination: Destination,
    /// What holds where nothing else was said.
    config: Config,
    format: Option<String>,
    filter: Option<String>,
    capture: Option<String>,
    print: Option<String>,
    library: PhantomData<fn() -> L>,
}

#[derive(Debug, Clone)]
enum Destination {
    None,
    Directory(PathBuf),
    Memory,
}

impl<L: TensorLibrary> TraceSessionBuilder<L> {
    /// Records into a directory, which is created with its parents. `%p`, `%r` and `%%` in it stand
    /// for process id, rank and percent sign, as in `BITNET_TRACE_DIR`.
    pub fn dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { destination: Destination::Directory(environment::expand(directory.into())), ..self }
    }

    /// Keeps the records in memory.
    pub fn in_memory(self) -> Self {
        Self { destination: Destination::Memory, ..self }
    }

    /// How records lie in the directory: `files` (the default) or `jsonl`.
    pub fn format(self, format: impl Into<String>) -> Self {
        Self { format: Some(format.into()), ..self }
    }

    /// Which records: `stage=attn_*,layer=0-3;stage=logits`. All by default.
    pub fn filter(self, filter: impl Into<String>) -> Self {
        Self { filter: Some(filter.into()), ..self }
    }

    /// What is kept beside hash and statistics: `none`, or a comma list of `sketch` (the default),
    /// `rows` and `values`, each with or without a filter.
    pub fn capture(self, capture: impl Into<String>) -> Self {
        Self { capture: Some(capture.into()), ..self }
    }

    /// Which records are printed on standard error, one line each. None by default.
    pub fn print(self, filter: impl Into<String>) -> Self {
        Self { print: Some(filter.into()), ..self }
    }

    /// Takes what the environment's variables say, except the directory, for what this builder is
    /// not told.
    ///
    /// # Errors
    ///
    /// If a variable has a value that is not allowed.
    pub fn environment(self) -> Result<Self, Error> {
        environment::warn_of_unknown();
        let config = environment::config().inspect_err(|error| {
            if environment::strict().unwrap_or(false) {
                abort(error);
            }
        })?;
        Ok(Self { config, ..self })
    }

    /// Starts the session.
    ///
    /// # Errors
    ///
    /// If there is no destination, a setting is not one of the allowed, the directory cannot be
    /// created or written, or another session of this process has it.
    pub fn start(self) -> Result<TraceSession<L>, Error> {
        let mut config = self.config;
        if let Some(text) = &self.format {
            config.format = Format::parse("format", text)?;
        }
        if let Some(text) = &self.filter {
            config.filter = parse_filter("filter", text)?;
        }
        if let Some(text) = &self.capture {
            config.capture = Capture::parse("capture", text)?;
        }
        if let Some(text) = &self.print {
            config.print = Some(parse_filter("print", text)?);
        }
        let hold = match &self.destination {
            Destination::None => return Err(Error::NoDestination),
            Destination::Memory => Run::in_memory(),
            Destination::Directory(directory) => Run::in_directory(directory, &config, Library::of::<L>()).inspect_err(|error| {
                if config.strict {
                    abort(error);
                }
            })?,
        };
        let run = hold.run();
        if run.in_session.swap(true, Ordering::AcqRel) {
            return Err(Error::InUse(run.directory().unwrap_or(Path::new("")).to_owned()));
        }
        Ok(TraceSession::live(Session::remembering(hold, config)))
    }
}

/// A session that did not keep everything: what was lost, and the rest.
#[derive(Debug)]
pub struct FinishError(Box<Unfinished>);

#[derive(Debug)]
struct Unfinished {
    trace: Trace,
    losses: Vec<Loss>,
    problems: Vec<Error>,
}

impl FinishError {
    /// Records that could not be kept, by cause.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.0.losses
    }

    /// Files that could not be written or read back.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.0.problems
    }

    /// What was kept.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// What was kept.
    #[must_use]
    pub fn into_trace(self) -> Trace {
        self.0.trace
    }
}

impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: u64 = self.losses().iter().map(|loss| loss.count).sum();
        write!(f, "the trace is incomplete: {lost} records lost, {} kept", self.trace().records().len())?;
        for loss in self.losses() {
            write!(f, "; {loss}")?;
        }
        for problem in self.problems() {
            write!(f, "; {}", problem.full())?;
        }
        Ok(())
    }
}

impl std::error::Error for FinishError {}
