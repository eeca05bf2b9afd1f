//! The border between C and Rust: texts come in checked, failures go out as a status and a message, and no panic
//! crosses.
//!
//! `unsafe` is needed here because C passes texts as pointers.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call came to. `bt_last_error` says more about everything but `BT_OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Status {
    /// Done, or nothing had to be done because nothing records.
    BtOk = 0,
    /// An argument that is needed is NULL.
    BtNull = 1,
    /// An argument has a value that is not allowed.
    BtInvalid = 2,
    /// There is no such session: it was never started, or it is finished.
    BtNoSession = 3,
    /// A scope or session was left that is not the innermost one of this thread.
    BtNotInnermost = 4,
    /// A directory or file could not be created or written.
    BtIo = 5,
    /// The session ended, but its trace lacks records.
    BtIncomplete = 6,
    /// A fault of this library: please report it.
    BtInternal = 7,
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
    /// The argument at fault, if it is one.
    pub(crate) argument: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), argument: None }
    }

    /// An argument that is refused.
    pub(crate) fn of(argument: &'static str, status: Status, message: impl Into<String>) -> Self {
        Self { argument: Some(argument), ..Self::new(status, message) }
    }
}

impl From<bitnet_trace_core::Error> for Failure {
    fn from(error: bitnet_trace_core::Error) -> Self {
        use bitnet_trace_core::Error;
        let status = match error {
            Error::Setting { .. } | Error::View { .. } | Error::InUse(_) => Status::BtInvalid,
            Error::Panicked { .. } => Status::BtInternal,
            _ => Status::BtIo,
        };
        Self::new(status, error.full())
    }
}

thread_local! {
    /// The message of this thread's last failure.
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs the body of a function that C calls. A panic becomes [`Status::BtInternal`].
pub(crate) fn returned(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    match caught(body) {
        Ok(()) => Status::BtOk,
        Err(failure) => {
            remember(&failure.message);
            failure.status
        }
    }
}

/// Runs a body that returns a value, or `otherwise` if it fails.
pub(crate) fn returned_or<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    caught(body).unwrap_or_else(|failure| {
        remember(&failure.message);
        otherwise
    })
}

fn caught<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(Failure::new(Status::BtInternal, format!("bitnet-trace panicked: {text}")))
    })
}

fn remember(message: &str) {
    let message = CString::new(message.replace('\0', " ")).ok();
    // The cell is unreachable while the thread ends.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = message));
}

/// The text at a pointer; `None` for NULL.
///
/// # Safety
///
/// The pointer is NULL, or points to a text that ends with a zero byte and outlives `'a`.
pub(crate) unsafe fn text<'a>(argument: &'static str, pointer: *const c_char) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as this function requires.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map(Some)
        .map_err(|error| Failure::of(argument, Status::BtInvalid, format!("`{argument}` is not UTF-8: {error}")))
}

/// Describes the last failure on this thread; an empty text if there was none. The text is valid until the next call
/// of a function of this library on the same thread.
#[unsafe(no_mangle)]
pub extern "C" fn bt_last_error() -> *const c_char {
    let last = LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|message| message.as_ptr()));
    last.ok().flatten().unwrap_or(c"".as_ptr())
}

/// The version of this library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn bt_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}
