//! A shared library that traces may be closed before the process ends: the hook that completes
//! `run.json` must still be there.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;
use std::path::Path;
use std::process::Command;

use bitnet_trace_tests::{repository, succeed};

/// Only the code that registers the hook: it needs nothing else of the library.
const PLUGIN: &str = r#"
#[path = "EXIT"]
mod exit;

#[unsafe(no_mangle)]
pub extern "C" fn record() {
    exit::at_exit(|clean| println!("hook {clean}"));
}
"#;

const PROGRAM: &str = r#"
use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlclose(library: *mut c_void) -> c_int;
}

fn main() {
    let file = CString::new(std::env::args().nth(1).unwrap()).unwrap();
    unsafe {
        let library = dlopen(file.as_ptr(), 2);
        assert!(!library.is_null());
        let record = dlsym(library, c"record".as_ptr());
        assert!(!record.is_null());
        std::mem::transmute::<*mut c_void, extern "C" fn()>(record)();
        assert_eq!(dlclose(library), 0);
    }
    println!("closed");
}
"#;

fn compile(directory: &Path, source: &str, kind: &str, name: &str) -> std::path::PathBuf {
    let (file, built) = (directory.join(format!("{name}.rs")), directory.join(name));
    fs::write(&file, source).expect("written");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--cap-lints", "allow", "--crate-type", kind, "-o"]).arg(&built).arg(&file);
    let _ = succeed(&mut rustc);
    built
}

#[test]
fn a_library_that_is_closed_before_the_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let exit = repository().join("bitnet-trace/core/src/run/exit.rs");
    let plugin = PLUGIN.replace("EXIT", &exit.display().to_string());
    let plugin = compile(dir.path(), &plugin, "cdylib", "plugin");
    let program = compile(dir.path(), PROGRAM, "bin", "program");
    let output = succeed(Command::new(program).arg(plugin));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "closed\nhook true\n");
}
