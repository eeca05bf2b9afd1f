//! The direction in which a tensor passes through the workspace: each crate, and each floor of the core,
//! depends only on what lies below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use bitnet_trace_tests::{repository, succeed};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// The packages of ours that each published package may depend on.
const CRATES: [(&str, &[&str]); 7] = [
    ("bitnet-trace-core", &[]),
    ("bitnet-trace-annotate", &[]),
    ("bitnet-trace-macros", &[]),
    ("bitnet-trace-capi", &["bitnet-trace-core"]),
    ("bitnet-trace-cli", &["bitnet-trace-annotate", "bitnet-trace-core"]),
    ("bitnet-trace", &["bitnet-trace-core", "bitnet-trace-macros"]),
    ("bitnet-models", &["bitnet-trace"]),
];

/// What a package may not depend on beyond that: whoever links the core or installs the command must not
/// build it.
const KEPT_OUT: [(&str, &[&str]); 4] = [
    ("bitnet-trace-core", &["candle", "clap", "syn", "quote", "proc-macro2"]),
    ("bitnet-trace-annotate", &["candle"]),
    ("bitnet-trace-cli", &["candle"]),
    ("bitnet-trace-macros", &["candle"]),
];

/// The floors of the core from the ground up, and the floors that each may import.
const FLOORS: [(&str, &[&str]); 15] = [
    ("error", &[]),
    ("failing", &["error"]),
    ("serial", &[]),
    ("digest", &["error"]),
    ("record", &["digest", "error", "serial"]),
    ("context", &[]),
    ("instrumented", &["context"]),
    ("trace", &["record", "digest", "error", "failing", "serial"]),
    // Records in memory keep their values in the form in which a trace gives them.
    ("sink", &["record", "digest", "error", "failing", "trace"]),
    ("run", &["sink", "record", "trace", "digest", "error", "failing", "serial"]),
    ("session", &["run", "sink", "record", "context", "trace", "digest", "error", "failing"]),
    ("compare", &["trace", "record", "digest", "error", "serial"]),
    ("report", &["compare", "trace", "record", "error"]),
    ("tools", &["trace", "digest", "record", "sink", "error", "serial"]),
    // The root only declares the floors and re-exports from them.
    (ROOT, &["compare", "context", "error", "instrumented", "record", "session", "trace"]),
];

/// `lib.rs` itself.
const ROOT: &str = "lib.rs";

#[test]
fn packages_depend_on_those_below_them_alone() {
    let metadata: serde_json::Value = {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(repository());
        serde_json::from_slice(&succeed(&mut cargo).stdout).expect("JSON")
    };
    let packages = metadata["packages"].as_array().expect("packages");
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        seen.insert(name);
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let dependencies: Vec<_> = dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| (dependency["name"].as_str().expect("a name"), !dependency["path"].is_null()))
            .collect();
        faults.extend(wrong_dependencies(name, &dependencies));
    }
    assert_eq!(faults, [""; 0]);
    assert!(CRATES.iter().all(|(name, _)| seen.contains(name)), "{seen:?}");
}

/// What is wrong with the dependencies of a package, each with whether it is one of ours.
fn wrong_dependencies(package: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
    let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == package) else {
        return vec![format!("{package} is not in the table of packages: add what it may depend on")];
    };
    let kept_out = KEPT_OUT.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, kept_out)| kept_out);
    let is_kept_out = |name: &str| {
        let rest = kept_out.iter().find_map(|family| name.strip_prefix(family));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    };
    let wrong = dependencies.iter().filter(|(name, ours)| (*ours && !allowed.contains(name)) || is_kept_out(name));
    wrong.map(|(name, _)| format!("{package} must not depend on {name}")).collect()
}

#[test]
fn floors_of_the_core_import_those_below_them_alone() {
    for (at, (floor, allowed)) in FLOORS.iter().enumerate() {
        let below = &FLOORS[..at];
        let above = allowed.iter().find(|allowed| !below.iter().any(|(name, _)| name == *allowed));
        assert_eq!(above, None, "the table lets {floor} import a floor that is not below it");
    }
    let modules = core();
    assert!(modules.len() > 100, "only {} modules were read", modules.len());
    let faults: Vec<_> = modules.iter().flat_map(wrong_imports).collect();
    assert_eq!(faults, [""; 0]);
    let floors: BTreeSet<_> = modules.iter().map(|module| module.floor.as_str()).collect();
    let missing = FLOORS.iter().find(|(name, _)| !floors.contains(name));
    assert_eq!(missing, None, "the table names a floor that the core does not have");
}

/// A tensor becomes a digest, a record of a run, a file; the file a record of a trace, a pair, a report.
/// Each step is taken by a module that knows both ends.
#[test]
fn a_record_walks_through_the_house() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Module { floor, imports: found, .. } in core() {
        imports.entry(floor).or_default().extend(found);
    }
    for (from, to, by) in [
        ("digest", "record", "session"),
        ("record", "run", "run"),
        ("run", "sink", "run"),
        // The names of the files, and the record that they hold, are all that writer and reader share.
        ("sink", "record", "sink"),
        ("record", "trace", "trace"),
        ("trace", "compare", "compare"),
        ("compare", "report", "report"),
    ] {
        let knows = |floor: &str| by == floor || imports[by].contains(floor);
        assert!(knows(from) && knows(to), "{by} does not lead from {from} to {to}: it imports {:?}", imports[by]);
    }
    // From the model into the core, and from the core to whoever reads the report.
    for (crate_root, path) in [
        ("bitnet-models/src/lib.rs", "bitnet_trace::"),
        ("bitnet-trace/src/lib.rs", "bitnet_trace_core::session"),
        ("bitnet-trace/src/lib.rs", "bitnet_trace_core::digest"),
        ("bitnet-trace/cli/src/main.rs", "bitnet_trace_core::compare"),
        ("bitnet-trace/cli/src/main.rs", "bitnet_trace_core::report"),
    ] {
        let source = repository().join(crate_root);
        let found = modules_of(&source).iter().any(|module| module.text.replace(' ', "").contains(path));
        assert!(found, "{crate_root} does not lead to {path}");
    }
}

#[test]
fn a_feature_switches_whole_modules() {
    let sources = core();
    let inside = sources.iter().find(|module| has_feature(&module.text));
    assert_eq!(inside.map(|module| &module.file), None, "the core has one form, whatever the features");
    let adapter = fs::read_to_string(repository().join("bitnet-trace/src/lib.rs")).expect("the adapter's root");
    let switches = adapter.lines().filter(|line| line.trim_start().starts_with("#[cfg")).count();
    assert!((1..=12).contains(&switches), "{switches} lines with #[cfg in bitnet-trace/src/lib.rs");
}

/// Whether a `cfg` in this code asks for a feature of the crate.
fn has_feature(code: &str) -> bool {
    let code = code.replace(' ', "");
    ["(feature=", ",feature="].iter().any(|asks| code.contains(asks))
}

/// Each way to import a floor that lies above is seen, and what is no import is not.
#[test]
fn a_wrong_import_is_found() {
    for (floor, source, expected) in [
        ("compare", "use crate::report::Html;", Some("report")),
        ("compare", "use crate::{error::Error, session};", Some("session")),
        ("compare", "use crate::{trace::{Trace, Values}, run::Run as R};", Some("run")),
        ("compare", "use super::report::Html;", Some("report")),
        ("compare", "fn f() -> crate::tools::Verified { loop {} }", Some("tools")),
        ("compare", "fn f() { println!(\"{}\", crate::session::OFF) }", Some("session")),
        ("compare", "mod inner { use super::super::report; }", Some("report")),
        ("compare", "use crate::Error;", Some("Error")),
        ("compare", "use crate::*;", Some("*")),
        ("digest", "#[cfg(not(test))] use crate::record::TraceRecord;", Some("record")),
        ("compare", "mod inner { use super::report; }", None),
        ("compare", "use crate::trace::Trace; use self::report::Own;", None),
        ("compare", "/// [`Html`](crate::report::Html)\n#[doc = \"crate::report\"] fn f() {}", None),
        ("compare", "#[cfg(test)] mod tests { use crate::report::Html; }", None),
        ("compare", "#[cfg(test)] use crate::report::Html;", None),
        ("compare", "pub(crate) fn f() {} pub(in crate::compare) fn g() {} pub(super) fn h() {}", None),
    ] {
        let module = Module::new("made-up.rs", &[floor.to_owned()], source);
        let expected: Vec<_> =
            expected.map(|found| format!("made-up.rs: {floor} must not import {found}")).into_iter().collect();
        assert_eq!(wrong_imports(&module), expected, "{source}");
    }
    let module = Module::new("made-up.rs", &["new".to_owned()], "use crate::error::Error;");
    assert_eq!(wrong_imports(&module), ["made-up.rs: new is not in the table of floors: add what it may import"]);

    let ours = |name| wrong_dependencies("bitnet-trace-core", &[("serde", false), (name, true)]);
    assert_eq!(ours("bitnet-trace-macros"), ["bitnet-trace-core must not depend on bitnet-trace-macros"]);
    let foreign = |package, name| wrong_dependencies(package, &[(name, false)]);
    assert_eq!(foreign("bitnet-trace-core", "candle-core"), ["bitnet-trace-core must not depend on candle-core"]);
    assert_eq!(foreign("bitnet-trace-core", "clap_complete"), ["bitnet-trace-core must not depend on clap_complete"]);
    assert_eq!(foreign("bitnet-trace-cli", "clap_complete"), [""; 0]);
    assert_eq!(foreign("bitnet-trace-new", "serde").len(), 1);

    for (code, expected) in [
        ("#[cfg(feature = \"trace\")] mod capture;", true),
        ("fn f() -> bool { cfg!(all(unix, feature = \"trace\")) }", true),
        ("#[cfg(target_feature = \"avx2\")] mod avx2;", false),
    ] {
        assert_eq!(has_feature(&Module::new("made-up.rs", &[], code).text), expected, "{code}");
    }
}

/// A source file of a crate.
struct Module {
    file: String,
    /// The module at the crate's root in which it lies, or [`ROOT`].
    floor: String,
    /// Names at the crate's root that its code goes through, tests apart.
    imports: BTreeSet<String>,
    /// The code, tests apart.
    text: String,
    /// The modules that it declares in files of their own.
    children: Vec<String>,
}

impl Module {
    /// `path` holds the names of the modules from the crate's root to this one.
    fn new(file: &str, path: &[String], source: &str) -> Self {
        let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut module = Self {
            file: file.to_owned(),
            floor: path.first().map_or(ROOT, String::as_str).to_owned(),
            imports: BTreeSet::new(),
            text: String::new(),
            children: Vec::new(),
        };
        let code = parsed.items.iter().filter(|item| !is_test(item));
        module.text = code.map(|item| item.to_token_stream().to_string() + " ").collect();
        module.read(&parsed.items, path.len());
        module
    }

    fn read(&mut self, items: &[syn::Item], depth: usize) {
        for item in items {
            if is_test(item) {
                continue;
            }
            match item {
                syn::Item::Mod(syn::ItemMod { content: Some((_, items)), .. }) => self.read(items, depth + 1),
                syn::Item::Mod(child) => self.children.push(child.ident.to_string()),
                // At the root of the crate `use floor::Name` needs no `crate`.
                syn::Item::Use(import) if depth == 0 => {
                    let first = import.tree.to_token_stream().into_iter().next();
                    self.imports.extend(first.map(|first| first.to_string()));
                }
                other => roots(other.to_token_stream(), depth, &mut self.imports),
            }
        }
    }
}

fn is_test(item: &syn::Item) -> bool {
    let (syn::Item::Mod(syn::ItemMod { attrs, .. })
    | syn::Item::Use(syn::ItemUse { attrs, .. })
    | syn::Item::Fn(syn::ItemFn { attrs, .. })
    | syn::Item::Impl(syn::ItemImpl { attrs, .. })) = item
    else {
        return false;
    };
    attrs.iter().any(|attribute| attribute.to_token_stream().to_string().replace(' ', "") == "#[cfg(test)]")
}

/// The names that follow `crate::`, or as many `super::` as lead to the crate's root, also inside macros.
/// Strings, as doc comments are, are not looked into.
fn roots(tokens: TokenStream, depth: usize, found: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is_word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.to_string() == word);
    let is_path = |at: usize| is_word(at, ":") && is_word(at + 1, ":");
    let mut at = 0;
    while at < tokens.len() {
        let mut after = None;
        if is_word(at, "crate") && is_path(at + 1) {
            after = Some(at + 3);
        } else if is_word(at, "super") {
            let start = at;
            while is_word(at, "super") && is_path(at + 1) {
                at += 3;
            }
            after = ((at - start) / 3 >= depth && at > start).then_some(at);
        }
        match after.and_then(|after| tokens.get(after)) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let mut begins = true;
                for token in group.stream() {
                    if begins {
                        found.insert(token.to_string());
                    }
                    begins = token.to_string() == ",";
                }
            }
            Some(name) => {
                found.insert(name.to_string());
            }
            None => {
                if let Some(TokenTree::Group(group)) = tokens.get(at) {
                    roots(group.stream(), depth, found);
                }
            }
        }
        at = after.unwrap_or(at) + 1;
    }
}

/// The imports of a module that the table does not allow.
fn wrong_imports(module: &Module) -> Vec<String> {
    let Module { file, floor, imports, .. } = module;
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| name == floor) else {
        return vec![format!("{file}: {floor} is not in the table of floors: add what it may import")];
    };
    let wrong = imports.iter().filter(|import| *import != floor && !allowed.contains(&import.as_str()));
    wrong.map(|import| format!("{file}: {floor} must not import {import}")).collect()
}

fn core() -> Vec<Module> {
    modules_of(&repository().join("bitnet-trace/core/src/lib.rs"))
}

/// The modules of a crate in files, as the compiler finds them, those for tests apart.
fn modules_of(root: &Path) -> Vec<Module> {
    let source = root.parent().expect("a directory");
    let mut modules = Vec::new();
    let mut pending = vec![(root.to_owned(), Vec::new())];
    while let Some((file, path)) = pending.pop() {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shown = file.strip_prefix(repository()).expect("in the repository").display().to_string();
        let module = Module::new(&shown, &path, &text);
        for child in &module.children {
            let mut path: Vec<String> = path.clone();
            path.push(child.clone());
            let place = source.join(path.join("/"));
            let alone = place.with_extension("rs");
            pending.push((if alone.exists() { alone } else { place.join("mod.rs") }, path));
        }
        modules.push(module);
    }
    modules
}
