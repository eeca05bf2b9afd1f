//! Measures what the library adds to a clean build with the feature off. The package uses every argument on
//! functions of every shape; its other dependencies are built already. It is compared with the same package
//! without the library.
//!
//! `cargo bench -p bitnet-trace-tests --bench clean_build`

use std::time::{Duration, Instant};

use bitnet_trace_tests::package::{Package, fixture, without_macros};
use bitnet_trace_tests::succeed;

/// The number of builds of each kind, taken in turn.
const BUILDS: usize = 7;

/// The time of a build after `cleaned` packages were removed.
fn build(package: &Package, cleaned: &[&str]) -> Duration {
    let mut clean = package.cargo("clean");
    for name in cleaned.iter().copied().chain([package.name()]) {
        clean.args(["-p", name]);
    }
    let _ = succeed(&mut clean);
    let started = Instant::now();
    let _ = succeed(package.cargo("build").args(["--lib", "--offline"]));
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let temporary = env!("CARGO_TARGET_TMPDIR");
    let source = fixture("every_shape/lib.rs");
    let with = Package::new(temporary, "clean_build_with", "2024");
    with.write("lib.rs", &source);
    let without = Package::without_library(temporary, "clean_build_without", "2024");
    without.write("lib.rs", &without_macros(&source));
    let ours = ["bitnet-trace", "bitnet-trace-macros"];
    // The first build also builds the other dependencies, so it does not count.
    let _ = (build(&with, &ours), build(&without, &[]));
    let times = (0..BUILDS).map(|_| (build(&with, &ours), build(&without, &[])));
    let (with, without) = times.unzip();
    let (with, without) = (median(with), median(without));
    let more = with.saturating_sub(without);
    println!("clean build, feature off, medians of {BUILDS}: {with:.2?} with the library, {without:.2?} without");
    println!("the library costs {more:.2?} more");
}
