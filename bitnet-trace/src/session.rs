//! Who records now: the session of the scope, or the one that the environment asks for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::context::{self, TraceContext};
use crate::error::Error;
use crate::losses::{Loss, Losses, warn};
use crate::read::Trace;
use crate::run::Run;

/// Non-empty: capture into this directory.
const DIRECTORY: &str = "BITNET_TRACE_DIR";

/// Something that records: a destination and what was recorded through it.
pub(crate) struct Session {
    pub(crate) run: Arc<Run>,
    /// Whether tensors are kept beside their records.
    pub(crate) values: bool,
    /// Positions of the records made through this session.
    orders: Mutex<Vec<u64>>,
    losses: Losses,
}

impl Session {
    pub(crate) fn new(run: Arc<Run>, values: bool) -> Self {
        Self { run, values, orders: Mutex::default(), losses: Losses::default() }
    }

    pub(crate) fn written(&self, order: u64) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
    }

    /// Counts a lost record, here and in the run.
    pub(crate) fn lose(&self, error: &Error) {
        self.losses.add(error);
        self.run.lose(error);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("directory", &self.run.directory()).finish_non_exhaustive()
    }
}

/// Whether anything may record: the one byte that a call site reads.
static STATE: AtomicU8 = AtomicU8::new(UNREAD);
/// The environment was not looked at yet.
const UNREAD: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

/// The session of the environment, once it was looked at.
static ENVIRONMENT: OnceLock<Option<Arc<Session>>> = OnceLock::new();
/// How many `TraceSession`s live.
static LIVE: Mutex<usize> = Mutex::new(0);

/// False where recording is certainly off; true where [`active`] has to be asked.
#[inline]
pub(crate) fn may_record() -> bool {
    STATE.load(Ordering::Relaxed) != OFF
}

/// The session that records what this thread does now.
pub(crate) fn active() -> Option<Arc<Session>> {
    context::current_session().or_else(|| {
        let session = ENVIRONMENT.get_or_init(from_environment).clone();
        set_state();
        session
    })
}

fn from_environment() -> Option<Arc<Session>> {
    let directory = environment_directory()?;
    match Run::in_directory(&directory) {
        Ok(run) => Some(Arc::new(Session::new(run, false))),
        Err(error) => {
            warn(format_args!("{error}; tracing is off ({DIRECTORY}={})", directory.display()));
            None
        }
    }
}

/// What `BITNET_TRACE_DIR` says now; none if it is unset or empty.
pub(crate) fn environment_directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()).map(PathBuf::from)
}

fn set_state() {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    let state = match ENVIRONMENT.get() {
        _ if *live > 0 => ON,
        Some(Some(_)) => ON,
        Some(None) => OFF,
        None => UNREAD,
    };
    STATE.store(state, Ordering::Relaxed);
}

/// Records what runs inside [`in_scope`](Self::in_scope), whatever the environment says: two
/// configurations in one process, traces in unit tests.
///
/// ```
/// use bitnet_trace::{TraceSession, traced};
/// use candle_core::{Device, Result, Tensor};
///
/// #[traced(stage = "double")]
/// fn double(x: &Tensor) -> Result<Tensor> {
///     x + x
/// }
///
/// # fn main() -> Result<()> {
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let session = TraceSession::builder().in_memory().start().expect("nothing to fail");
/// session.in_scope(|| double(&x))?;
/// let trace = session.finish().expect("nothing was lost");
/// assert_eq!(trace.records()[0].stage.as_deref(), Some("double"));
/// assert_eq!(trace.records()[0].max, Some(4.0));
/// # Ok(())
/// # }
/// ```
#[must_use = "a session records only inside `in_scope`"]
#[derive(Debug)]
pub struct TraceSession {
    session: Arc<Session>,
}

impl TraceSession {
    /// Begins to configure a session.
    pub fn builder() -> TraceSessionBuilder {
        TraceSessionBuilder::default()
    }

    /// Calls `f`; what annotated functions do inside, on this thread and in contexts taken from it,
    /// is recorded by this session.
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        TraceContext::of_session(Arc::clone(&self.session)).in_scope(f)
    }

    /// Where the records lie. It differs from the directory asked for where that one belongs to
    /// another process or to something else. None in memory.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.session.run.directory()
    }

    /// Ends the session and gives what it recorded, in execution order.
    ///
    /// # Errors
    ///
    /// [`FinishError`] if anything was lost or cannot be read back; it lists what, and holds the
    /// rest.
    pub fn finish(self) -> Result<Trace, FinishError> {
        let Session { run, orders, losses, .. } = &*self.session;
        let mut problems = Vec::new();
        let trace = if let Some(directory) = run.directory() {
            let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
            let orders = orders.iter().copied().collect();
            problems.extend(run.write_manifest(Some(std::time::SystemTime::now())).err());
            Trace::of_run(directory, &orders)
        } else {
            Ok(Trace::in_memory(run.take_memory()))
        };
        let mut trace = trace.unwrap_or_else(|error| {
            problems.push(error);
            Trace::default()
        });
        problems.append(&mut trace.take_problems());
        let losses = losses.list();
        if losses.is_empty() && problems.is_empty() {
            Ok(trace)
        } else {
            Err(FinishError(Box::new(Unfinished { trace, losses, problems })))
        }
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        self.session.run.in_session.store(false, Ordering::Release);
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        set_state();
    }
}

/// Configures a [`TraceSession`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `start`"]
pub struct TraceSessionBuilder {
    destination: Destination,
    capture: Option<String>,
}

#[derive(Debug, Clone, Default)]
enum Destination {
    #[default]
    None,
    Directory(PathBuf),
    Memory,
}

impl TraceSessionBuilder {
    /// Records into a directory, which is created with its parents.
    pub fn dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { destination: Destination::Directory(directory.into()), ..self }
    }

    /// Keeps the records in memory.
    pub fn in_memory(self) -> Self {
        Self { destination: Destination::Memory, ..self }
    }

    /// What is captured beside hash and statistics: `none` (the default) or, in memory, `values`,
    /// a copy of every tensor.
    pub fn capture(self, capture: impl Into<String>) -> Self {
        Self { capture: Some(capture.into()), ..self }
    }

    /// Starts the session.
    ///
    /// # Errors
    ///
    /// If there is no destination, `capture` is not one of the allowed words, the directory cannot
    /// be created or written, or another session of this process has it.
    pub fn start(self) -> Result<TraceSession, Error> {
        let in_memory = matches!(self.destination, Destination::Memory);
        let values = match self.capture.as_deref() {
            None | Some("none") => false,
            Some("values") if in_memory => true,
            Some(other) => {
                return Err(Error::Setting {
                    setting: "capture",
                    found: other.to_owned(),
                    expected: "`none`, or `values` in memory",
                });
            }
        };
        let run = match &self.destination {
            Destination::None => return Err(Error::NoDestination),
            Destination::Memory => Run::in_memory(),
            Destination::Directory(directory) => Run::in_directory(directory)?,
        };
        if run.in_session.swap(true, Ordering::AcqRel) {
            return Err(Error::InUse(run.directory().unwrap_or(Path::new("")).to_owned()));
        }
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        set_state();
        Ok(TraceSession { session: Arc::new(Session::new(run, values)) })
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
            write!(f, "; {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FinishError {}
