//! `TraceSession`: sessions that a program configures, independent of the environment.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Plain, Session, TensorLibrary, abort, environment, state};
use crate::context::{ContextGuard, TraceContext};
use crate::error::Error;
use crate::failing::locked;
use crate::record::Loss;
use crate::run::config::{Capture, Config, Format, parse_filter};
use crate::run::{Library, Run};
use crate::trace::Trace;

/// A session that records what runs inside [`in_scope`](Self::in_scope), independent of the environment. Use it
/// for traces in unit tests, or for two configurations in one process.
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
/// `L` is the tensor library that `run.json` describes.
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

    /// A session that records nothing: inside its scope tracing is off, even if the environment turns it on.
    pub fn disabled() -> Self {
        Self::begin(Session::new(None, Config::default()))
    }

    fn begin(session: Session) -> Self {
        state::began();
        Self { session: Arc::new(session), library: PhantomData }
    }

    /// Calls `f` and records the annotated functions that it calls, on this thread and in contexts taken from it.
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        TraceContext::of_session(Arc::clone(&self.session) as _).in_scope(f)
    }

    /// Makes this thread record into the session until the guard is dropped. [`in_scope`](Self::in_scope) is the same
    /// for a closure, and cannot be left in the wrong order.
    pub fn enter(&self) -> ContextGuard {
        TraceContext::of_session(Arc::clone(&self.session) as _).enter()
    }

    /// The directory of the records; `None` for a session in memory. If another process or program uses the requested
    /// directory, this is a new directory inside it.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.session.run.as_ref()?.directory()
    }

    /// Ends the session and returns its records in execution order, read back from the directory. It closes all files
    /// of the session. Contexts that were carried out of the session record nothing afterwards.
    ///
    /// # Errors
    ///
    /// [`FinishError`] if records were lost, are no longer in the directory, or cannot be read back. It lists the
    /// problems and holds the other records.
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

/// Configures a [`TraceSession`]. The settings have the syntax of the environment variables; the variables themselves
/// are ignored unless [`environment`](Self::environment) is called.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct TraceSessionBuilder<L = Plain> {
    destination: Destination,
    /// The values of settings that the fields below leave open.
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
    /// Records into a directory, which is created with its parents. As in `BITNET_TRACE_DIR`, `%p` stands for the
    /// process id, `%r` for the rank and `%%` for a percent sign.
    pub fn dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { destination: Destination::Directory(environment::expand(directory.into())), ..self }
    }

    /// Keeps the records in memory.
    pub fn in_memory(self) -> Self {
        Self { destination: Destination::Memory, ..self }
    }

    /// Sets the format of the records in the directory: `files` (the default) or `jsonl`.
    pub fn format(self, format: impl Into<String>) -> Self {
        Self { format: Some(format.into()), ..self }
    }

    /// Sets which records are written, as in `stage=attn_*,layer=0-3;stage=logits`. The default is all records.
    pub fn filter(self, filter: impl Into<String>) -> Self {
        Self { filter: Some(filter.into()), ..self }
    }

    /// Sets what records hold besides hash and statistics: `none`, or a comma list of `sketch` (the default), `rows`
    /// and `values`, each with or without a filter in parentheses.
    pub fn capture(self, capture: impl Into<String>) -> Self {
        Self { capture: Some(capture.into()), ..self }
    }

    /// Sets which records are printed on standard error, one line each. By default no record is printed.
    pub fn print(self, filter: impl Into<String>) -> Self {
        Self { print: Some(filter.into()), ..self }
    }

    /// Uses the environment variables, except the directory, for the settings that this builder does not set.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a variable has a value that is not allowed.
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
    /// * [`Error::NoDestination`] if neither a directory nor `in_memory` was set.
    /// * [`Error::Setting`] if a setting has a value that is not allowed.
    /// * [`Error::Io`] if the directory cannot be created or written.
    /// * [`Error::InUse`] if another session of this process records into the directory.
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
            Destination::Directory(directory) => Run::in_directory(directory, &config, Library::of::<L>())
                .inspect_err(|error| {
                    if config.strict {
                        abort(error);
                    }
                })?,
        };
        let run = hold.run();
        if run.in_session.swap(true, Ordering::AcqRel) {
            return Err(Error::InUse(run.directory().unwrap_or(Path::new("")).to_owned()));
        }
        Ok(TraceSession::begin(Session::remembering(hold, config)))
    }
}

/// The error of a session that lost records. It holds the losses and the records that were kept.
#[derive(Debug)]
pub struct FinishError(Box<Unfinished>);

#[derive(Debug)]
struct Unfinished {
    trace: Trace,
    losses: Vec<Loss>,
    problems: Vec<Error>,
}

impl FinishError {
    /// The records that could not be written, by cause.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.0.losses
    }

    /// The errors of files that could not be written or read back.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.0.problems
    }

    /// The records that were kept.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// The records that were kept, by value.
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
