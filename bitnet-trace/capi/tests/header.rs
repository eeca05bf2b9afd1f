//! The header says what the code says.

use std::fs;
use std::path::Path;

/// `UPDATE_HEADER=1` writes it again.
#[test]
fn the_header_is_that_of_the_code() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).expect("a configuration");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["border", "scope", "session", "tensor"] {
        builder = builder.with_src(package.join("src").join(format!("{file}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().expect("a header").write(&mut text);
    let expected = String::from_utf8(text).expect("UTF-8");
    let path = package.join("include/bitnet_trace.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        fs::write(&path, &expected).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "include/bitnet_trace.h is not that of the code; write it again with UPDATE_HEADER=1 cargo test -p bitnet-trace-capi --test header"
    );
    for function in ["bt_enabled", "bt_record", "bt_scope_enter", "bt_session_finish", "bt_last_error"] {
        assert!(found.contains(function), "{function}");
    }
}
