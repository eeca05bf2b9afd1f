//! Copies models of candle-transformers from Cargo's registry, and adds the lines that annotate them.

mod annotations;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use annotations::{Added, Annotated, BY_HAND, INIT};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the models use of the crate: files in `src/`, and modules at the root.
const USED: [&str; 3] = ["utils", "quantized_nn", "quantized_var_builder"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=Cargo.toml");
    // A feature of candle-transformers, never on.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"flash-attn\"))");
    let source = candle_transformers()?.join("src");
    println!("cargo::rerun-if-changed={}", source.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("Cargo did not set OUT_DIR")?);

    let mut modules = String::new();
    for name in USED {
        declare(&mut modules, &write(&out, "root", name, &read(&source, name)?)?, name)?;
    }
    // `with_tracing` is a model's neighbour: `super::with_tracing` and `crate::models::with_tracing`.
    let with_tracing = write(&out, "root", "with_tracing", &read(&source, "models/with_tracing")?)?;
    for (folder, annotated, lines, what) in [
        ("plain", &INIT[..], false, "The files without a change."),
        ("models", &INIT[..], true, "What `bitnet-trace init` makes of them."),
        ("by_hand", &BY_HAND[..], true, "Files as a person annotates them."),
    ] {
        writeln!(modules, "/// {what}\npub mod {folder} {{")?;
        if folder == "models" {
            declare(&mut modules, &with_tracing, "with_tracing")?;
        } else {
            writeln!(modules, "#[allow(unused_imports)] use crate::models::with_tracing;")?;
        }
        let mut texts = String::new();
        for Annotated { file, lines: added } in annotated {
            let plain = read(&source, &format!("models/{file}"))?;
            let text =
                if lines { annotate(&plain, added).map_err(|fault| format!("{file}.rs: {fault}"))? } else { plain };
            let path = write(&out, folder, file, &text)?;
            declare(&mut modules, &path, file)?;
            writeln!(texts, "({file:?}, include_str!({:?})),", path.display().to_string())?;
        }
        writeln!(modules, "/// The names of these files, and their texts.")?;
        writeln!(modules, "pub const TEXTS: &[(&str, &str)] = &[{texts}];\n}}")?;
    }
    fs::write(out.join("modules.rs"), modules)?;
    Ok(())
}

/// The folder of candle-transformers' source, in the version that `Cargo.lock` names.
fn candle_transformers() -> Result<PathBuf> {
    let manifest =
        Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("Cargo did not set CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let ask = |offline: bool| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["metadata", "--format-version", "1", "--locked", "--features", "source", "--filter-platform"]);
        cargo.arg(env::var_os("HOST").unwrap_or_default()).arg("--manifest-path").arg(&manifest);
        cargo.args(offline.then_some("--offline"));
        cargo.output()
    };
    // Cargo downloads what a build compiles, and this crate is not compiled: the first time it has to be fetched.
    let mut output = ask(true)?;
    if !output.status.success() {
        output = ask(false)?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata does not find the source of candle-transformers: {said}").into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages
        .find(|package| package["name"] == "candle-transformers")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata names no package candle-transformers")?;
    let folder = Path::new(package).parent().ok_or("candle-transformers has no folder")?;
    Ok(folder.to_owned())
}

/// The file `NAME.rs` of the source.
fn read(source: &Path, name: &str) -> Result<String> {
    let path = source.join(name).with_extension("rs");
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Keeps a file for the compiler; returns its path.
fn write(out: &Path, folder: &str, name: &str, text: &str) -> Result<PathBuf> {
    let path = out.join(folder).join(name).with_extension("rs");
    fs::create_dir_all(out.join(folder))?;
    fs::write(&path, text)?;
    Ok(path)
}

/// Declares the module in this file. Its code is candle's: none of our lints apply.
fn declare(modules: &mut String, file: &Path, name: &str) -> Result<()> {
    writeln!(modules, "#[allow(warnings, clippy::all, clippy::pedantic, rustdoc::all)]")?;
    writeln!(modules, "#[path = {:?}]\npub mod {name};", file.display().to_string())?;
    Ok(())
}

/// The text with these lines added, each whole.
fn annotate(text: &str, added: &[Added]) -> std::result::Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut places = Vec::new();
    for Added { before, nth, line } in added {
        let alike = lines.iter().enumerate().filter(|(_, text)| text.trim_start() == *before);
        let alike: Vec<usize> = alike.map(|(at, _)| at).collect();
        let Some(at) = nth.checked_sub(1).and_then(|nth| alike.get(nth)) else {
            let found = alike.len();
            return Err(format!(
                "expected {nth} or more lines `{before}`, to add `{line}` before number {nth}; found {found}. \
                 Is this another version of candle-transformers? Mend build/annotations.rs"
            ));
        };
        places.push((*at, *line));
    }
    let mut annotated = Vec::new();
    for (at, text) in lines.into_iter().enumerate() {
        let indentation = &text[..text.len() - text.trim_start().len()];
        let here = places.iter().filter(|(place, _)| *place == at);
        annotated.extend(here.map(|(_, line)| format!("{indentation}{line}")));
        annotated.push(text.to_owned());
    }
    Ok(annotated.join("\n") + "\n")
}
