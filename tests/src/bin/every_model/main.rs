//! Compiles every model of candle-transformers with `#[traced(locals)]` on each function that returns tensors: a body that
//! compiles without `locals` compiles with it.
//!
//! The package is copied out of the registry into a folder below the target directory, in the version that Cargo.lock
//! names, and checked twice: as it is, then annotated. What the annotated one has more of is listed, and an error
//! is a failure. `--build` also builds the annotated one, which finds what only the generation of code does.

mod annotations;
mod check;
mod exceptions;
mod package;

use std::collections::BTreeMap;
use std::process::ExitCode;

use annotations::Annotations;
use check::{Checked, Diagnostic};
use exceptions::{EXCEPTIONS, Exception};
use package::Package;

/// What the tool can fail with: a text that says all.
type Failure = Box<dyn std::error::Error>;

/// At least so many of each: most of what candle-transformers 0.11.1 has. With fewer, the tool would have passed by finding
/// little.
const LEAST: [(&str, usize); 4] = [
    ("annotated files", 120),
    ("annotated functions", 1200),
    ("recorded functions", 1200),
    ("recorded variables", 8000),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let builds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--build"] => true,
        _ => {
            eprintln!("error: expected no argument or `--build`, found: {}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match run(builds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every model compiles.
fn run(builds: bool) -> Result<bool, Failure> {
    let package = Package::find("candle-transformers")?;
    println!("{} {}", package.name, package.version);
    let plain = package.copy("plain", None)?;
    let before = plain.check()?;
    if let Some(error) = before.errors.first() {
        return Err(
            format!("{} does not compile as it is, without any attribute:\n{}", package.name, error.text).into()
        );
    }
    let annotations = Annotations::of(&plain)?;
    let traced = package.copy("traced", Some(&annotations.sources(EXCEPTIONS)?))?;
    let after = traced.check()?;

    let mut passes = true;
    // Code for other devices is annotated, and left out by `cfg`.
    let [functions, variables] = traced.recorded()?;
    let found = [annotations.files(), annotations.functions(EXCEPTIONS), functions, variables];
    println!("annotated: {} functions in {} files", found[1], found[0]);
    println!("recorded, in what is compiled for this machine: {functions} functions, {variables} variables");
    for ((what, least), found) in LEAST.iter().zip(found) {
        if found < *least {
            println!("error: {found} {what}, expected at least {least}");
            passes = false;
        }
    }
    println!("passed over: {} functions that return tensors", annotations.passed_over.len());
    for (reason, functions) in by_reason(&annotations) {
        println!("  {reason}\n    {}", functions.join("\n    "));
    }
    for Exception { file, function, reason } in EXCEPTIONS {
        println!("left out: {file} {function}: {reason}");
    }
    passes &= report(&before, &after);
    for exception in EXCEPTIONS {
        passes &= is_needed(&package, &annotations, exception)?;
    }
    if builds && passes {
        passes = traced.build()?;
    }
    println!("{}", if passes { "every model compiles" } else { "error: not every model compiles" });
    Ok(passes)
}

fn by_reason(annotations: &Annotations) -> BTreeMap<String, Vec<String>> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, passed) in &annotations.passed_over {
        let function = format!("{file}:{} {}", passed.line, passed.function);
        reasons.entry(passed.reason.to_string()).or_default().push(function);
    }
    reasons
}

/// Prints the errors and the further warnings of the annotated package. Returns whether there are no errors.
fn report(before: &Checked, after: &Checked) -> bool {
    for error in &after.errors {
        println!("\n{}", error.text);
    }
    if !after.errors.is_empty() {
        println!("error: {} errors in what compiles without `#[traced(locals)]`", after.errors.len());
    }
    let further = further(&before.warnings, &after.warnings);
    for warning in &further {
        println!("\n{}", warning.text);
    }
    println!("warnings: {} without the attributes, {} more with them", before.warnings.len(), further.len());
    after.errors.is_empty()
}

/// The warnings that only the annotated package has. Its lines have other numbers.
fn further<'d>(before: &[Diagnostic], after: &'d [Diagnostic]) -> Vec<&'d Diagnostic> {
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for warning in before {
        *known.entry(&warning.kind).or_default() += 1;
    }
    let is_further = |warning: &&Diagnostic| match known.get_mut(&warning.kind) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        _ => true,
    };
    after.iter().filter(is_further).collect()
}

/// An exception that compiles is no exception. Each is tried alone: an error can hide others.
fn is_needed(package: &Package, annotations: &Annotations, exception: &Exception) -> Result<bool, Failure> {
    let others: Vec<_> = EXCEPTIONS.iter().filter(|other| *other != exception).copied().collect();
    let copy = package.copy("exception", Some(&annotations.sources(&others)?))?;
    let needed = !copy.check()?.errors.is_empty();
    if !needed {
        println!("error: {} {} compiles: remove it from the exceptions", exception.file, exception.function);
    }
    Ok(needed)
}
