//! The list of annotated functions with linkers other than the compiler's own choice. They also collect sections
//! that nothing refers to, and the list is in such a section.
#![cfg(target_os = "linux")]

use std::process::Command;

use bitnet_trace_tests::package::{ON, Package};
use bitnet_trace_tests::{skip, succeed};

const LIBRARY: &str = "
use bitnet_trace::traced;
use candle_core::Tensor;

#[traced]
pub fn called(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced]
pub fn not_called(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced]
pub fn not_instantiated<T>(x: &Tensor, _: T) -> Tensor {
    x.clone()
}
";

const MAIN: &str = "
fn main() {
    let x = candle_core::Tensor::new(1f32, &candle_core::Device::Cpu).expect(\"a tensor\");
    drop(bitnet_trace_tests_linkers::called(&x));
    let functions: Vec<_> = bitnet_trace::sites().iter().map(|site| site.function).collect();
    println!(\"{}\", functions.join(\" \"));
}
";

/// Linkers as `-fuse-ld` names them, and their programs.
const LINKERS: [(&str, &str); 3] = [("bfd", "ld.bfd"), ("lld", "ld.lld"), ("mold", "mold")];

#[test]
fn every_linker_keeps_the_list_of_annotated_functions() {
    let package = Package::new(env!("CARGO_TARGET_TMPDIR"), "bitnet_trace_tests_linkers", "2024");
    package.write("lib.rs", LIBRARY);
    package.write("main.rs", MAIN);
    let target = package.directory().ancestors().nth(2).expect("the target directory");
    let binary = target.join("debug").join(package.name());
    for (linker, program) in LINKERS {
        if Command::new(program).arg("--version").output().is_err() {
            skip("REQUIRE_LINKERS", &format!("{program} is not installed"));
            continue;
        }
        // The flags are as in a user's `.cargo/config.toml`: rustc does not know these linkers and adds no flags.
        let arguments = [format!("link-arg=-fuse-ld={linker}"), "link-arg=-Wl,-z,start-stop-gc".to_owned()];
        let mut build = package.cargo("rustc");
        build.args(["--bin", package.name()]).args(ON).arg("--");
        build.args(arguments.iter().flat_map(|argument| ["-C", argument]));
        let _ = succeed(&mut build);
        let output = succeed(&mut Command::new(&binary));
        let found = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(found.trim(), "called not_called not_instantiated", "{linker}");
        // The binary was made by this linker.
        let comment = succeed(Command::new("readelf").args(["-p", ".comment"]).arg(&binary));
        let comment = String::from_utf8_lossy(&comment.stdout).to_lowercase();
        assert!(linker == "bfd" || comment.contains(linker), "{linker}: {comment}");
    }
}
