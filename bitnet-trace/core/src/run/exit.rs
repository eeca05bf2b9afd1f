//! Calls a function when the process ends by returning from main or by `process::exit`.
//!
//! `unsafe` is needed because the C library's exit hooks have no safe binding.
#![allow(unsafe_code)]

use std::sync::{Once, OnceLock};

static HOOK: OnceLock<fn(bool)> = OnceLock::new();

/// Calls `hook` once when the process exits. Its argument says whether the process ended cleanly.
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

/// glibc passes the exit status to the hook, which shows whether main panicked or returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};

    /// The exit status that the standard library uses after a panic in main.
    const PANICKED: c_int = 101;

    unsafe extern "C" {
        fn on_exit(hook: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn hook(status: c_int, _argument: *mut c_void) {
        run_hook(status != PANICKED);
    }
    stay_loaded(hook as *const c_void);
    // SAFETY: `hook` has the signature that on_exit(3) requires and never unwinds. It stays in memory until the
    // process ends, because `stay_loaded` keeps the library that holds it. The argument is not used.
    let _ = unsafe { on_exit(hook, std::ptr::null_mut()) };
}

/// Keeps the shared library that holds a function in memory until the process ends, even if it is closed. When a
/// library is closed, glibc unregisters its hooks of `atexit`, but not those of `on_exit`.
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
fn stay_loaded(function: *const std::ffi::c_void) {
    use std::ffi::{c_char, c_int, c_void};

    /// `Dl_info` of glibc's dlfcn.h.
    #[repr(C)]
    struct DlInfo {
        file: *const c_char,
        base: *mut c_void,
        symbol: *const c_char,
        address: *mut c_void,
    }
    /// `RTLD_LAZY`, `RTLD_NOLOAD` and `RTLD_NODELETE` of glibc's bits/dlfcn.h.
    const LAZY: c_int = 1;
    const NOLOAD: c_int = 4;
    const NODELETE: c_int = 0x1000;

    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
        fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    }
    let mut info = DlInfo {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: dladdr(3) accepts any address and writes to `info`, which has the layout of `Dl_info`. The file name
    // that it gives belongs to an object that is already loaded, and with NOLOAD dlopen(3) only marks that object.
    // If the object is the program itself, dlopen finds nothing, and nothing needs to be kept.
    unsafe {
        if dladdr(function, &raw mut info) != 0 && !info.file.is_null() {
            let _ = dlopen(info.file, LAZY | NOLOAD | NODELETE);
        }
    }
}

/// A static program has no shared libraries to keep.
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
