//! The scopes of a thread: step, layer, tokens, request and session, left in the reverse order in which they were entered.
//!
//! `unsafe` is needed here because C finds functions by names that must be unique.
#![allow(unsafe_code)]

use std::cell::RefCell;

use bitnet_trace_core::{ContextGuard, TraceContext};

use crate::border::{Failure, Status, returned};

/// What a thread entered.
pub(crate) struct Scope {
    guard: ContextGuard,
    /// The session's number; `None` for every other scope.
    session: Option<u64>,
}

/// The scopes that a thread is in, outermost first.
struct Scopes(Vec<Scope>);

impl Drop for Scopes {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

thread_local! {
    static SCOPES: RefCell<Scopes> = const { RefCell::new(Scopes(Vec::new())) };
}

pub(crate) fn enter(guard: ContextGuard, session: Option<u64>) -> Result<(), Failure> {
    with(|scopes| scopes.0.push(Scope { guard, session }))
}

/// Leaves the innermost scope if it is a session's, or if it is none, as asked.
pub(crate) fn leave(is_session: bool) -> Result<(), Failure> {
    let left = with(|scopes| match scopes.0.last() {
        Some(scope) if scope.session.is_some() == is_session => Ok(scopes.0.pop()),
        Some(_) => Err(if is_session {
            "a scope was entered inside the session and not left: call `bt_scope_leave` first"
        } else {
            "a session was entered inside the scope and not left: call `bt_session_leave` first"
        }),
        None => Err("this thread is in no scope"),
    })?;
    // Dropped outside of the cell's borrow.
    drop(left.map_err(|message| Failure::new(Status::BtNotInnermost, message))?.map(|scope| scope.guard));
    Ok(())
}

fn with<R>(f: impl FnOnce(&mut Scopes) -> R) -> Result<R, Failure> {
    let ending = || Failure::new(Status::BtInvalid, "the thread is ending: its scopes are gone");
    SCOPES
        .try_with(|scopes| scopes.try_borrow_mut().map(|mut scopes| f(&mut scopes)).ok())
        .ok()
        .flatten()
        .ok_or_else(ending)
}

/// Enters a scope of this thread: records made in it have this step and layer. A negative number leaves the step or
/// the layer of the scope around it as it is. Each call needs one `bt_scope_leave`.
///
/// `seq` is 0 for the prefill, then 1, 2, ... for the decode steps; `layer` counts from 0.
#[unsafe(no_mangle)]
pub extern "C" fn bt_scope_enter(seq: i64, layer: i64) -> Status {
    returned(|| {
        let mut context = TraceContext::default();
        (context.seq, context.layer) = (usize::try_from(seq).ok(), usize::try_from(layer).ok());
        enter(context.enter(), None)
    })
}

/// Enters a scope of this thread: records made in it are computed for the tokens at the positions `start` to `end - 1`
/// of the sequence. With them a prefill can be compared with single steps. If a number is negative or `end` is less than
/// `start`, the result is `BT_INVALID`, and no scope is entered. Each other call needs one `bt_scope_leave`.
#[unsafe(no_mangle)]
pub extern "C" fn bt_scope_enter_tokens(start: i64, end: i64) -> Status {
    returned(|| {
        let positions = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let (start, end) = positions.filter(|(start, end)| start <= end).ok_or_else(|| {
            Failure::new(Status::BtInvalid, format!("tokens from position {start} to {end} are not a range"))
        })?;
        enter(TraceContext::tokens(start..end).enter(), None)
    })
}

/// Enters a scope of this thread: records made in it belong to this request, which tells prompts apart that a server
/// computes. Needs one `bt_scope_leave`.
#[unsafe(no_mangle)]
pub extern "C" fn bt_scope_enter_request(request: u64) -> Status {
    returned(|| enter(TraceContext::request(request).enter(), None))
}

/// Leaves the innermost scope of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn bt_scope_leave() -> Status {
    returned(|| leave(false))
}
