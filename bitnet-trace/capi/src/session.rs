//! Sessions, which a program configures itself, and the session of the environment.
//!
//! `unsafe` is needed here because C passes texts as pointers.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitnet_trace_core::session::{self, OUT, Plain, may_record};
use bitnet_trace_core::{TraceContext, TraceSession, record_name};
use serde_json::Value;

use crate::border::{Failure, Status, returned, returned_or, text};
use crate::scope;

/// The sessions that are not finished. A handle is a number, so that one of a finished session is recognised.
static SESSIONS: Mutex<BTreeMap<u64, TraceSession>> = Mutex::new(BTreeMap::new());

fn sessions() -> MutexGuard<'static, BTreeMap<u64, TraceSession>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn none(session: u64) -> Failure {
    Failure::new(Status::BtNoSession, format!("there is no session {session}: it was never started, or it is finished"))
}

/// 1 if a record that this thread makes now may be kept, 0 if nothing records. The first call reads the environment:
/// `BITNET_TRACE_DIR` and the variables beside it.
#[unsafe(no_mangle)]
pub extern "C" fn bt_enabled() -> i32 {
    returned_or(0, || Ok(i32::from(may_record() && session::active::<Plain>().is_some())))
}

/// 1 if the filter may keep a record of this name and stage in the scope of this thread, 0 if not. It costs less than
/// computing a tensor that nobody records. Either text may be NULL, as in `bt_record`.
///
/// # Safety
///
/// `name` and `stage` are NULL or texts that end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bt_wants(name: *const c_char, stage: *const c_char) -> i32 {
    returned_or(0, || {
        if !may_record() {
            return Ok(0);
        }
        let Some(session) = session::active::<Plain>() else { return Ok(0) };
        // SAFETY: as this function requires.
        let (name, stage) = unsafe { (text("name", name)?, text("stage", stage)?) };
        let context = TraceContext::current();
        let made = record_name(context.seq, context.layer, stage.unwrap_or_default(), "");
        Ok(i32::from(session.wants_record(name.unwrap_or(&made), stage, OUT, &context)))
    })
}

/// Starts a session that records into a directory, whatever the environment says. `filter`, `format` and `capture` have
/// the syntax of the environment variables; NULL stands for the default. Returns a handle, or 0 if it cannot start:
/// see `bt_last_error`.
///
/// # Safety
///
/// Each argument is NULL or a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bt_session_start(
    directory: *const c_char,
    filter: *const c_char,
    format: *const c_char,
    capture: *const c_char,
) -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    returned_or(0, || {
        // SAFETY: as this function requires.
        let [directory, filter, format, capture] = unsafe {
            [text("directory", directory)?, text("filter", filter)?, text("format", format)?, text("capture", capture)?]
        };
        let directory = directory.filter(|directory| !directory.is_empty());
        let directory = directory.ok_or_else(|| Failure::new(Status::BtNull, "a session needs a `directory`"))?;
        let mut builder = TraceSession::builder().dir(directory);
        if let Some(filter) = filter {
            builder = builder.filter(filter);
        }
        if let Some(format) = format {
            builder = builder.format(format);
        }
        if let Some(capture) = capture {
            builder = builder.capture(capture);
        }
        let session = builder.start()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        sessions().insert(number, session);
        Ok(number)
    })
}

/// Makes this thread record into the session, until `bt_session_leave`.
#[unsafe(no_mangle)]
pub extern "C" fn bt_session_enter(session: u64) -> Status {
    returned(|| {
        let guard = sessions().get(&session).map(TraceSession::enter).ok_or_else(|| none(session))?;
        scope::enter(guard, Some(session))
    })
}

/// Leaves the session that this thread entered last.
#[unsafe(no_mangle)]
pub extern "C" fn bt_session_leave() -> Status {
    returned(|| scope::leave(true))
}

/// Ends a session and closes its files. Threads that are still in it record nothing from now on. Returns
/// `BT_INCOMPLETE` if records were lost: `bt_last_error` lists how many and why, and so does `run.json`.
#[unsafe(no_mangle)]
pub extern "C" fn bt_session_finish(session: u64) -> Status {
    returned(|| {
        let ended = sessions().remove(&session).ok_or_else(|| none(session))?;
        ended.finish().map(drop).map_err(|error| Failure::new(Status::BtIncomplete, error.to_string()))
    })
}

/// Puts a fact about the run into `run.json` at once: the prompt, the digest of the checkpoint.
///
/// # Safety
///
/// `key` and `value` are NULL or texts that end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bt_annotate(key: *const c_char, value: *const c_char) -> Status {
    returned(|| {
        // SAFETY: as this function requires.
        let (key, value) = unsafe { (text("key", key)?, text("value", value)?) };
        let (Some(key), Some(value)) = (key, value) else {
            return Err(Failure::new(Status::BtNull, "`bt_annotate` needs a key and a value"));
        };
        annotate(key, value.into());
        Ok(())
    })
}

/// As `bt_annotate`, with a value in JSON: a number, or a list such as the ids of the prompt's tokens, `[1, 17, 200]`.
/// `bitnet-trace sweep` compares the lists `prompt_tokens` and `generated_tokens` of two runs.
///
/// # Safety
///
/// `key` and `json` are NULL or texts that end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bt_annotate_json(key: *const c_char, json: *const c_char) -> Status {
    returned(|| {
        // SAFETY: as this function requires.
        let (key, json) = unsafe { (text("key", key)?, text("json", json)?) };
        let (Some(key), Some(json)) = (key, json) else {
            return Err(Failure::new(Status::BtNull, "`bt_annotate_json` needs a key and a value"));
        };
        let value = serde_json::from_str(json)
            .map_err(|error| Failure::of("json", Status::BtInvalid, format!("`json` is not JSON: {error}")))?;
        annotate(key, value);
        Ok(())
    })
}

fn annotate(key: &str, value: Value) {
    if may_record()
        && let Some(session) = session::active::<Plain>()
    {
        session.annotate(key, value);
    }
}

/// Makes everything recorded so far readable by other processes. A process that ends cleanly need not call it.
#[unsafe(no_mangle)]
pub extern "C" fn bt_flush() -> Status {
    returned(|| {
        session::flush();
        Ok(())
    })
}
