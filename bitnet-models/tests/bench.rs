//! `bitnet bench` runs without a word about sizes, and says what it measured.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.arg("bench").args(arguments).env_remove("BITNET_TRACE_DIR").output().expect("bitnet starts")
}

#[test]
fn the_embedded_model_is_measured() {
    let output = bench(&["--json", "--rounds", "1", "--threads", "1"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    // Of a context of 64.
    assert_eq!((&report["prompt_tokens"], &report["threads"]), (&48.into(), &1.into()));
    for key in [
        "load_seconds",
        "prefill_seconds",
        "prefill_tokens_per_second",
        "decode_seconds_per_token",
        "decode_tokens_per_second",
        "weight_bytes_per_token",
        "read_bytes_per_second",
        "bandwidth_share",
    ] {
        assert!(report[key].as_f64().is_some_and(|number| number > 0.0 && number.is_finite()), "{key}: {report}");
    }
    assert_eq!(report["tracing"].is_object(), cfg!(feature = "trace"), "{report}");
}

#[test]
fn more_tokens_than_the_context_has_are_refused() {
    let output = bench(&["--prompt-tokens", "64"]);
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && message.contains("the model's context of 64 positions"), "{message}");
}
