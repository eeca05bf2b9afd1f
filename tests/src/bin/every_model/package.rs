//! A package of the registry, and copies of it that are packages of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitnet_trace_tests::package::{Dependency, SHARED, profiles};
use bitnet_trace_tests::repository;
use serde_json::Value;

use crate::Failure;

/// A package of the registry, in the version that Cargo.lock names.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Where cargo unpacked it.
    registry: PathBuf,
    /// The target directory of the workspace.
    target: PathBuf,
}

/// A copy of a package, in a folder that is the same in every run.
pub(crate) struct Copy {
    pub(crate) directory: PathBuf,
    pub(crate) target: PathBuf,
}

impl Package {
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        // A package of the workspace names it, behind this feature.
        let feature = "bitnet-trace-candle-models/source";
        let mut cargo = cargo(&["metadata", "--format-version", "1", "--locked", "--features", feature]);
        cargo.arg("--filter-platform").arg(host()?).current_dir(repository());
        // The first time its dependencies may have to be downloaded: nothing of the workspace compiles them.
        let mut output = cargo.arg("--offline").output()?;
        if !output.status.success() {
            let mut online = Command::new(cargo.get_program());
            online.args(cargo.get_args().filter(|argument| *argument != "--offline")).current_dir(repository());
            output = online.output()?;
        }
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
        let found: Vec<_> = packages.iter().filter(|package| package["name"] == name).collect();
        let [package] = found[..] else {
            return Err(format!("expected one {name} in Cargo.lock, found {}", found.len()).into());
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("cargo metadata lacks a field");
        let manifest = PathBuf::from(text(&package["manifest_path"])?);
        Ok(Self {
            name: name.to_owned(),
            version: text(&package["version"])?,
            registry: manifest.parent().ok_or("a manifest lies in a folder")?.to_owned(),
            target: text(&metadata["target_directory"])?.into(),
        })
    }

    /// Copies the sources. `annotated` are files with another text; with it, the package depends on the library.
    pub(crate) fn copy(&self, name: &str, annotated: Option<&BTreeMap<String, String>>) -> Result<Copy, Failure> {
        let directory = self.target.join("every-model").join(name);
        let mut kept = Vec::new();
        let mut folders = vec![self.registry.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let file = path.strip_prefix(&self.registry)?.to_string_lossy().into_owned();
                let text = annotated.and_then(|annotated| annotated.get(&file));
                let bytes = text.map_or_else(|| fs::read(&path), |text| Ok(text.clone().into_bytes()))?;
                write(&directory.join(&file), &bytes)?;
                kept.push(directory.join(file));
            }
        }
        write(&directory.join("Cargo.toml"), self.manifest(annotated.is_some())?.as_bytes())?;
        write(&directory.join("Cargo.lock"), &fs::read(repository().join("Cargo.lock"))?)?;
        remove_others(&directory.join("src"), &kept)?;
        Ok(Copy { directory, target: self.target.clone() })
    }

    /// The manifest that cargo normalised for the registry, without what needs further packages or is not copied:
    /// features have no effect, and optional dependencies and tests are left out.
    fn manifest(&self, traced: bool) -> Result<String, Failure> {
        let original = fs::read_to_string(self.registry.join("Cargo.toml"))?;
        let mut manifest = String::new();
        let mut shared = SHARED.to_vec();
        for section in original.split("\n[").skip(1) {
            let (title, rest) = section.split_once("]\n").ok_or("a section of Cargo.toml has a line")?;
            if title == "features" {
                manifest.push_str("\n[features]\n");
                let names = rest.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
                names.filter(|name| *name != "default").try_for_each(|name| writeln!(manifest, "{name} = []"))?;
            } else if !title.starts_with("[test") && rest.lines().all(|line| line != "optional = true") {
                writeln!(manifest, "\n[{title}]\n{}", rest.trim_end())?;
                // A package cannot depend twice on one version of another.
                if let Some(at) = shared.iter().position(|shared| is_same(shared, title, rest)) {
                    let features = shared.remove(at).features;
                    if !features.is_empty() && !rest.contains("\nfeatures = ") {
                        writeln!(manifest, "features = {features:?}")?;
                    }
                }
            }
        }
        for Dependency { name, version, features } in shared {
            write!(manifest, "\n[dependencies.shared-{name}]\npackage = '{name}'\nversion = '{version}'\n")?;
            writeln!(manifest, "features = {features:?}")?;
        }
        if traced {
            let library = repository().join("bitnet-trace");
            let library = library.display();
            write!(manifest, "\n[dependencies.bitnet-trace]\npath = '{library}'\nfeatures = ['trace']\n")?;
        }
        write!(manifest, "\n[workspace]\n\n{}", profiles())?;
        Ok(manifest)
    }
}

/// Whether a section asks for the same package, in versions that one package satisfies: the same up to the first number
/// that is not 0.
fn is_same(shared: &Dependency, title: &str, rest: &str) -> bool {
    let compatible = |version: &str| -> Vec<String> {
        let mut numbers = version.split('.');
        let mut kept: Vec<_> = numbers.by_ref().take_while(|number| *number == "0").map(str::to_owned).collect();
        kept.extend(version.split('.').nth(kept.len()).map(str::to_owned));
        kept
    };
    let version =
        rest.lines().find_map(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"'));
    title.strip_prefix("dependencies.") == Some(shared.name)
        && version.is_some_and(|version| compatible(version) == compatible(shared.version))
}

/// A command of cargo: the one that built this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).env_remove("BITNET_TRACE_DIR");
    command
}

/// The compiler's name of this platform.
fn host() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("-vV").current_dir(repository()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("`rustc -vV` names no host")?.to_owned())
}

/// Writes a file, unless it has this content already: cargo goes by the time of the last change.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Removes the files of an earlier copy, of another version, that are not in this one.
fn remove_others(folder: &Path, kept: &[PathBuf]) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
