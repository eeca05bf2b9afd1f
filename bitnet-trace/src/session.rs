//! Who records now: the session of the scope, or the one that the environment asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::Tensor;

use crate::annotation::Annotation;
use crate::config::{self, Capture, Config, Format, parse_filter};
use crate::context::{self, TraceContext};
use crate::error::Error;
use crate::filter::Subject;
use crate::losses::{Loss, Losses, warn};
use crate::read::Trace;
use crate::record::TraceRecord;
use crate::run::Run;

/// Places in the order of a run, as ranges: one that records alone needs a single one.
#[derive(Debug, Default)]
pub(crate) struct Orders(BTreeMap<u64, u64>);

impl Orders {
    fn insert(&mut self, order: u64) {
        match self.0.range_mut(..=order).next_back() {
            Some((_, end)) if *end == order => *end = order + 1,
            _ => {
                self.0.insert(order, order + 1);
            }
        }
    }

    pub(crate) fn contains(&self, order: u64) -> bool {
        self.0.range(..=order).next_back().is_some_and(|(_, end)| order < *end)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

/// Something that records: a destination, and what is recorded there.
pub(crate) struct Session {
    /// None where records are only printed.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) config: Config,
    /// Tells the sessions of a process apart, from 1.
    pub(crate) number: u64,
    /// Orders of the records made through this session, where somebody will ask for them.
    orders: Option<Mutex<Orders>>,
    losses: Losses,
}

impl Session {
    fn new(run: Option<Arc<Run>>, config: Config) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { run, config, number, orders: None, losses: Losses::default() }
    }

    /// Whether a record is wanted at all; none if that depends on what is not known yet.
    pub(crate) fn wants(&self, subject: &Subject<'_>) -> Option<bool> {
        let kept = if self.run.is_some() { self.config.filter.accepts(subject) } else { Some(false) };
        let printed = self.config.print.as_ref().map_or(Some(false), |print| print.accepts(subject));
        match (kept, printed) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Writes the record; `values` is its tensor, where values were asked for.
    pub(crate) fn keep(&self, record: &mut TraceRecord, values: Option<&Tensor>) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let lost_values = run.write(record, values, self.config.format)?;
        if let (Some(orders), Some(order)) = (&self.orders, record.order) {
            orders.lock().unwrap_or_else(PoisonError::into_inner).insert(order);
        }
        if let Some(error) = lost_values {
            self.lose(&error);
        }
        Ok(())
    }

    /// Counts a loss, here and in the run; warns if it is the first of its cause.
    pub(crate) fn lose(&self, error: &Error) {
        if self.config.strict {
            abort(error);
        }
        let first = self.losses.add(error);
        let first = self.run.as_ref().map_or(first, |run| run.lose(error));
        if first {
            warn(format_args!("{error}; it is lost to the trace, the model goes on"));
        }
    }

    pub(crate) fn annotate(&self, key: &str, value: Annotation) {
        if let Some(run) = &self.run {
            run.annotate(key, value);
        }
    }
}

/// What `BITNET_TRACE_STRICT` asks for: nothing of the run can be trusted any more.
fn abort(error: &Error) -> ! {
    warn(format_args!("{error}; aborting, as BITNET_TRACE_STRICT asks"));
    std::process::abort()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.run.as_ref().and_then(|run| run.directory());
        f.debug_struct("Session").field("directory", &directory).finish_non_exhaustive()
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
    let directory = config::directory();
    if directory.is_none() && !config::prints() {
        return None;
    }
    let config = settings().ok()?.clone();
    let run = match directory.map(|directory| Run::in_directory(&directory, &config)).transpose() {
        Ok(run) => run,
        Err(error) if config.strict => abort(&error),
        Err(error) => {
            warn(format_args!("{error}; tracing is off"));
            return None;
        }
    };
    Some(Arc::new(Session::new(run, config)))
}

/// What the variables say, the directory excepted: read once. A wrong value is told once.
fn settings() -> Result<&'static Config, &'static Error> {
    static SETTINGS: OnceLock<Result<Config, Error>> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        Config::from_environment().inspect_err(|error| {
            if config::strict().unwrap_or(false) {
                abort(error);
            }
            warn(format_args!("{error}; tracing is off"));
        })
    });
    settings.as_ref()
}

/// What `dump_trace` records through: the environment's settings in the directory of this moment.
pub(crate) fn in_directory(directory: &Path) -> candle_core::Result<Arc<Session>> {
    let config = settings().map_err(|error| candle_core::Error::msg(error.to_string()))?;
    let run = Run::in_directory(directory, config).map_err(|error| {
        if config.strict {
            abort(&error);
        }
        candle_core::Error::wrap(error)
    })?;
    Ok(Arc::new(Session::new(Some(run), config.clone())))
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

    /// A session that records nothing: inside its scope tracing is off, whatever the environment
    /// says.
    pub fn disabled() -> Self {
        Self::live(Session::new(None, Config::default()))
    }

    fn live(session: Session) -> Self {
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        set_state();
        Self { session: Arc::new(session) }
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
        self.session.run.as_ref()?.directory()
    }

    /// Ends the session and gives what it recorded, in execution order.
    ///
    /// # Errors
    ///
    /// [`FinishError`] if anything was lost or cannot be read back; it lists what, and holds the
    /// rest.
    pub fn finish(self) -> Result<Trace, FinishError> {
        let mut problems = Vec::new();
        let mut trace = self.recorded(&mut problems).unwrap_or_else(|error| {
            problems.push(error);
            Trace::default()
        });
        problems.append(&mut trace.take_problems());
        let losses = self.session.losses.list();
        if losses.is_empty() && problems.is_empty() {
            Ok(trace)
        } else {
            Err(FinishError(Box::new(Unfinished { trace, losses, problems })))
        }
    }

    fn recorded(&self, problems: &mut Vec<Error>) -> Result<Trace, Error> {
        let Session { run: Some(run), orders: Some(orders), .. } = &*self.session else { return Ok(Trace::default()) };
        let Some(directory) = run.directory() else { return Ok(Trace::in_memory(run.take_memory())) };
        problems.extend(run.write_manifest(None).err());
        let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
        Trace::of_run(directory, &orders)
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        if let Some(run) = &self.session.run {
            run.in_session.store(false, Ordering::Release);
        }
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        set_state();
    }
}

/// Configures a [`TraceSession`]: the words are those of the environment's variables, whose values
/// play no part unless [`environment`](Self::environment) is called.
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `start`"]
pub struct TraceSessionBuilder {
    destination: Destination,
    /// What holds where nothing else was said.
    config: Config,
    format: Option<String>,
    filter: Option<String>,
    capture: Option<String>,
    print: Option<String>,
}

#[derive(Debug, Clone, Default)]
enum Destination {
    #[default]
    None,
    Directory(PathBuf),
    Memory,
}

impl TraceSessionBuilder {
    /// Records into a directory, which is created with its parents. `%p`, `%r` and `%%` in it stand
    /// for process id, rank and percent sign, as in `BITNET_TRACE_DIR`.
    pub fn dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { destination: Destination::Directory(config::expand(directory.into())), ..self }
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
        let config = Config::from_environment().inspect_err(|error| {
            if config::strict().unwrap_or(false) {
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
    pub fn start(self) -> Result<TraceSession, Error> {
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
        let run = match &self.destination {
            Destination::None => return Err(Error::NoDestination),
            Destination::Memory => Run::in_memory(),
            Destination::Directory(directory) => Run::in_directory(directory, &config).inspect_err(|error| {
                if config.strict {
                    abort(error);
                }
            })?,
        };
        if run.in_session.swap(true, Ordering::AcqRel) {
            return Err(Error::InUse(run.directory().unwrap_or(Path::new("")).to_owned()));
        }
        Ok(TraceSession::live(Session { orders: Some(Mutex::default()), ..Session::new(Some(run), config) }))
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
