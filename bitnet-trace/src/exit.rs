//! Calls a function when the process ends by returning from main or by `process::exit`.
//!
//! `unsafe` here: the C library's exit hooks have no safe binding.
#![allow(unsafe_code)]

use std::sync::{Once, OnceLock};

static HOOK: OnceLock<fn(bool)> = OnceLock::new();

/// Calls `hook` at exit, once; true tells it that the process ended cleanly.
pub(crate) fn at_exit(hook: fn(bool)) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let _ = HOOK.set(hook);
        register();
    });
}

fn run_hook(clean: bool) {
    if let Some(hook) = HOOK.get() {
        // Unwinding into the C library would abort with a second, misleading message.
        let _ = std::panic::catch_unwind(|| hook(clean));
    }
}

/// glibc tells the hook the exit status, so that a main that panicked can be told from one that
/// returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};

    /// What the standard library exits with after a panic in main.
    const PANICKED: c_int = 101;

    unsafe extern "C" {
        fn on_exit(hook: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn hook(status: c_int, _argument: *mut c_void) {
        run_hook(status != PANICKED);
    }
    // SAFETY: `hook` has the signature that on_exit(3) asks for, never unwinds, and lives as long
    // as the program; the argument is not used.
    let _ = unsafe { on_exit(hook, std::ptr::null_mut()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn register() {
    unsafe extern "C" {
        safe fn atexit(hook: extern "C" fn()) -> std::ffi::c_int;
    }
    extern "C" fn hook() {
        run_hook(true);
    }
    let _ = atexit(hook);
}
