//! The report in a real browser: headless Chromium, driven by `browser/report.mjs`.
//!
//! Needs node, `npm ci` in `tests/browser`, and Chromium (`/usr/bin/chromium`, or the program that `CHROMIUM`
//! names). The test is skipped if one is missing, unless `REQUIRE_BROWSER=1`.

use std::path::Path;
use std::process::Command;

use bitnet_models::{Transformer, tiny};
use bitnet_trace::compare::{DiffOptions, diff_paths};
use bitnet_trace::report::Html;
use bitnet_trace::trace::Manifest;
use bitnet_trace::{TraceContext, TraceSession, tap};
use bitnet_trace_tests::{repository, skip, succeed, synthetic};
use candle_core::Tensor;

fn report(reference: &Path, trace: &Path, page: &Path) {
    let comparison = diff_paths(reference, trace, &DiffOptions::default(), &mut |_, _| ()).expect("readable");
    let manifests = [reference, trace].map(|path| Manifest::open(path).expect("readable"));
    let html = Html::new(&comparison)
        .with_names(["reference", "mine"])
        .with_manifests([manifests[0].as_ref(), manifests[1].as_ref()]);
    std::fs::write(page, html.to_string()).expect("written");
}

/// A name that would run as a script in a page that does not escape it.
const MARKUP: &str = "</script><img src=x onerror=\"document.title='taken over'\">";

/// Three steps of the embedded model, each with two more stages: one that a fault makes too large in the second
/// step, one whose name is markup.
fn run(directory: &Path, fault: Option<f64>) {
    let model = Transformer::load(&tiny::checkpoint().expect("embedded")).expect("it loads");
    let session = TraceSession::builder().dir(directory).capture("sketch,values").start().expect("a session");
    session.in_scope(|| {
        bitnet_trace::annotate_run("prompt", if fault.is_some() { "12+35=" } else { MARKUP });
        let mut cache = bitnet_models::KvCache::new(model.config());
        for step in 0..3 {
            let _ = model.forward_incremental(step + 3, &mut cache).expect("a step");
            let _scope = TraceContext::seq(step as usize).with_layer(1).enter();
            let values = [1f32, 2.0, -3.0, 0.5];
            let factor = fault.filter(|_| step == 1).unwrap_or(1.0);
            let x = Tensor::new(&values, &candle_core::Device::Cpu).and_then(|x| x * factor).expect("a tensor");
            tap("q_extra", &x);
            tap(MARKUP, &x);
        }
    });
    session.finish().expect("nothing lost");
    bitnet_trace::flush();
}

#[test]
fn the_report_holds_in_a_browser() {
    let folder = repository().join("tests/browser");
    let there = folder.join("node_modules/playwright-core").exists()
        && Path::new(&std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())).exists();
    if !there {
        return skip("REQUIRE_BROWSER", "Chromium is missing, or `npm ci` was not run in tests/browser");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    run(&at("reference"), None);
    run(&at("mine"), Some(1.5));
    report(&at("reference"), &at("mine"), &at("small.html"));
    synthetic::write(&at("large-reference"), 100_000, usize::MAX);
    synthetic::write(&at("large-mine"), 100_000, 34_567);
    report(&at("large-reference"), &at("large-mine"), &at("large.html"));
    let mut command = Command::new("node");
    let cases = repository().join("bitnet-trace/core/src/report/filter_cases.json");
    command.arg("report.mjs").args([at("small.html"), at("large.html"), cases]).current_dir(&folder);
    if let Some(shots) = std::env::var_os("SCREENSHOTS") {
        command.arg(shots);
    }
    // Figures of the large reports.
    print!("{}", String::from_utf8_lossy(&succeed(&mut command).stdout));
}
