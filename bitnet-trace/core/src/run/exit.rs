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
    stay_loaded(hook as *const c_void);
    // SAFETY: `hook` has the signature that on_exit(3) asks for, never unwinds, and lives as long
    // as the program, also in a library that is closed; the argument is not used.
    let _ = unsafe { on_exit(hook, std::ptr::null_mut()) };
}

/// Keeps the shared library that holds a function in memory until the process ends, whoever closes it:
/// glibc takes back what `atexit` registered for a library that is closed, but not what `on_exit` did.
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
fn stay_loaded(function: *const std::ffi::c_void) {
    use std::ffi::{c_char, c_int, c_void};

    /// dlfcn.h of glibc: `Dl_info`.
    #[repr(C)]
    struct Info {
        file: *const c_char,
        base: *mut c_void,
        symbol: *const c_char,
        address: *mut c_void,
    }
    /// bits/dlfcn.h of glibc: `RTLD_LAZY`, `RTLD_NOLOAD`, `RTLD_NODELETE`.
    const LAZY: c_int = 1;
    const NOLOAD: c_int = 4;
    const NODELETE: c_int = 0x1000;

    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
        fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    }
    let mut info = Info {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: dladdr(3) takes any address and writes to `info`, whose layout is that of `Dl_info`. The
    // name that it gives is that of an object in memory, which NOLOAD only marks. Where the object is
    // the program itself, dlopen finds nothing, and there is nothing to keep.
    unsafe {
        if dladdr(function, &raw mut info) != 0 && !info.file.is_null() {
            let _ = dlopen(info.file, LAZY | NOLOAD | NODELETE);
        }
    }
}

/// A program without shared libraries.
#[cfg(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static"))]
fn stay_loaded(_: *const std::ffi::c_void) {}

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
