//! Builds a fixture as a package of its own with a nested cargo, with or without the macros. It is built alone
//! because features unify inside one build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository;

/// A dependency of a manifest.
#[derive(Debug, Clone, Copy)]
pub struct Dependency {
    /// The package.
    pub name: &'static str,
    /// The version that it asks for.
    pub version: &'static str,
    /// The features that it asks for.
    pub features: &'static [&'static str],
}

/// Dependencies that the code does not use: with them, candle's dependencies have the same features as in the
/// workspace, and candle is not built again.
pub const SHARED: [Dependency; 6] = [
    Dependency { name: "clap", version: "4", features: &["derive"] },
    Dependency { name: "once_cell", version: "1", features: &[] },
    Dependency { name: "rand", version: "0.10", features: &[] },
    Dependency { name: "rustix", version: "1", features: &["time"] },
    Dependency { name: "serde_core", version: "1", features: &[] },
    Dependency { name: "serde_json", version: "1", features: &["float_roundtrip"] },
];

/// The feature of a package that turns capture on.
pub const ON: [&str; 2] = ["--features", "trace"];

/// A package in a directory that is the same in every run: its path is part of every symbol.
#[derive(Debug)]
pub struct Package(PathBuf);

impl Package {
    /// Makes a package that depends on the library. `temporary` is `CARGO_TARGET_TMPDIR`, two levels below the
    /// target directory, whose built dependencies are reused.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[must_use]
    pub fn new(temporary: &str, name: &str, edition: &str) -> Self {
        let library = repository().join("bitnet-trace");
        let dependency = format!("bitnet-trace = {{ path = '{}' }}\n", library.display());
        let feature = "[features]\ntrace = [\"bitnet-trace/trace\"]\n\n";
        Self::make(temporary, name, edition, &dependency, feature)
    }

    /// Makes the same package without the library.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[must_use]
    pub fn without_library(temporary: &str, name: &str, edition: &str) -> Self {
        Self::make(temporary, name, edition, "", "")
    }

    /// Makes a package that depends on the core alone, without candle.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[must_use]
    pub fn on_core(temporary: &str, name: &str, edition: &str) -> Self {
        let core = repository().join("bitnet-trace/core");
        let dependency = format!("bitnet-trace-core = {{ path = '{}' }}\n", core.display());
        Self::with_dependencies(temporary, name, edition, &dependency, "")
    }

    fn make(temporary: &str, name: &str, edition: &str, dependency: &str, feature: &str) -> Self {
        let dependencies = format!("{dependency}async-trait = \"0.1\"\ncandle-core = \"0.11.1\"\n");
        let shared = SHARED.map(|Dependency { name, version, features }| {
            format!("{name} = {{ version = \"{version}\", features = {features:?} }}\n")
        });
        Self::with_dependencies(temporary, name, edition, &(dependencies + &shared.concat()), feature)
    }

    fn with_dependencies(temporary: &str, name: &str, edition: &str, dependencies: &str, feature: &str) -> Self {
        let directory = Path::new(temporary).join(format!("{name}_{edition}"));
        fs::create_dir_all(directory.join("src")).expect("a directory");
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"{edition}\"\n\n[workspace]\n\n{feature}\
             [dependencies]\n{dependencies}\n{}",
            profiles()
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("written");
        fs::copy(repository().join("Cargo.lock"), directory.join("Cargo.lock")).expect("copied");
        Self(directory)
    }

    /// Writes or replaces a source file.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, source: &str) {
        let path = self.0.join("src").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, source).expect("written");
    }

    /// Makes a cargo command that builds in the package's directory.
    ///
    /// # Panics
    ///
    /// Never, if cargo made the target directory.
    #[must_use]
    pub fn cargo(&self, command: &str) -> Command {
        let target = self.0.ancestors().nth(2).expect("the target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg(command).arg("--target-dir").arg(target).current_dir(&self.0).env_remove("BITNET_TRACE_DIR");
        cargo
    }

    /// The package's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The package's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.rsplit_once('_'))
            .map_or("", |(name, _)| name)
    }
}

/// The profiles of the workspace, so that dependencies built for it can be reused.
///
/// # Panics
///
/// If the workspace's manifest cannot be read, or has none.
#[must_use]
pub fn profiles() -> String {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the workspace's manifest");
    manifest[manifest.find("[profile.dev]").expect("profiles")..].to_owned()
}

/// Reads a fixture's source file.
///
/// # Panics
///
/// If there is no such fixture.
#[must_use]
pub fn fixture(name: &str) -> String {
    fs::read_to_string(repository().join("tests/fixtures").join(name)).expect("the fixture")
}

/// Adds `locals` to every attribute on a function. Lines stay the same.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn with_locals(source: &str) -> String {
    // `label` and `skip` stand on fields, `crate` on types too.
    let lines = source.split_inclusive('\n').map(|line| {
        let attribute = line.trim_start();
        if attribute.starts_with("#[traced]") {
            line.replacen("#[traced]", "#[traced(locals)]", 1)
        } else if ["#[traced(stage", "#[traced(layer"].iter().any(|begin| attribute.starts_with(begin))
            && !attribute.contains("locals")
        {
            line.replacen("#[traced(", "#[traced(locals, ", 1)
        } else {
            line.to_owned()
        }
    });
    let with: String = lines.collect();
    assert!(with.contains("#[traced(locals"));
    with
}

/// Replaces every attribute, derive and import of the macros by as many blanks. Lines and columns stay the same,
/// because panics and lints name them.
///
/// # Panics
///
/// If a bracket is not closed.
#[must_use]
pub fn without_macros(source: &str) -> String {
    let mut plain = source.to_owned();
    for (open, closes) in [("#[traced", ']'), ("#[derive(Traced)]", ']'), ("use bitnet_trace::", ';')] {
        while let Some(start) = plain.find(open) {
            let mut depth = 0;
            let end = plain[start..].find(|c: char| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                c == closes && depth == 0
            });
            let end = start + end.expect("it is closed") + 1;
            plain.replace_range(start..end, &" ".repeat(end - start));
        }
    }
    assert!(!plain.contains("traced(") && !plain.contains("Traced") && plain.len() == source.len());
    plain
}
