//! `bitnet-trace init`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::said;

const MODEL: &str = "\
use candle_core::{Result, Tensor};

impl Model {
    fn forward(&mut self, x: &Tensor, index_pos: usize) -> Result<Tensor> {
        for layer in self.layers.iter_mut() {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    const fn weight(&self) -> &Tensor {
        &self.weight
    }
}
";

const ATTRIBUTE: &str = "#[traced(stage = \"model\", seq = index_pos, layers(layer), locals)]";

fn written(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("readable")
}

#[test]
fn init_prints_a_diff_that_patch_applies() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = written(directory.path(), "model.rs", MODEL);
    let (code, out, err) = said(&["init", &path]);
    assert_eq!(code, Some(0), "{err}");
    let expected = format!(
        "\
--- {path}
+++ {path}
@@ -1,6 +1,8 @@
+use bitnet_trace::traced;
 use candle_core::{{Result, Tensor}};
 
 impl Model {{
+    {ATTRIBUTE}
     fn forward(&mut self, x: &Tensor, index_pos: usize) -> Result<Tensor> {{
         for layer in self.layers.iter_mut() {{
             x = layer.forward(&x)?;
"
    );
    assert_eq!(out, expected);
    let expected = format!(
        "{path}: 1 function to annotate; passed over `Model::weight` (line 11): a `const fn` cannot record\n\
         next: `bitnet-trace init --write ..` changes the files\n"
    );
    assert_eq!(err, expected);
    assert_eq!(read(&path), MODEL, "without --write nothing changes");
}

#[test]
fn init_writes_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = written(directory.path(), "model.rs", MODEL);
    let (code, out, err) = said(&["init", "--write", &path]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("1 function annotated; passed over") && err.contains("BITNET_TRACE_DIR=traces"), "{err}");
    let annotated = read(&path);
    let attribute = format!("    {ATTRIBUTE}\n");
    assert_eq!(annotated.replace("use bitnet_trace::traced;\n", "").replace(&attribute, ""), MODEL);
    let before = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    let (code, out, err) = said(&["init", "--write", &path]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("0 functions to annotate; 1 annotated already"), "{err}");
    assert_eq!(read(&path), annotated);
    assert_eq!(fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time"), before);
    let left: Vec<_> = fs::read_dir(directory.path()).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn init_does_the_others_if_one_file_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path();
    let good = written(at, "good.rs", MODEL);
    let bad = [
        (written(at, "bytes.rs", b"fn f() {}\n\xff"), "line 2: not UTF-8 (byte 10)"),
        (written(at, "prose.rs", "Hello, world\n"), "line 1, column"),
        (written(at, "deep.rs", format!("const X: u8 = {}1", "(".repeat(100_000))), "line 1"),
        (written(at, "deeper.rs", format!("const X: u8 = {}1;", "!".repeat(100_000))), "nested more than"),
        (written(at, "large.rs", " ".repeat((16 << 20) + 2)), "expected Rust source text of at most 16777216"),
        ("/no/such/file.rs".to_owned(), "cannot read it"),
        ("/dev/null".to_owned(), "not a file"),
    ];
    for (path, reason) in &bad {
        let (code, _, err) = said(&["init", path]);
        assert!(code == Some(2) && err.contains(&format!("error: {path}: ")) && err.contains(reason), "{path}: {err}");
    }
    let mut arguments = vec!["init", "--write"];
    arguments.extend(bad.iter().map(|(path, _)| path.as_str()));
    arguments.push(&good);
    let (code, _, err) = said(&arguments);
    assert_eq!(code, Some(2), "{err}");
    assert!(read(&good).contains(ATTRIBUTE), "{err}");
    assert_eq!(said(&["init"]).0, Some(2));
}

#[test]
fn init_says_where_there_is_nothing_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let empty = written(directory.path(), "empty.rs", "");
    let other = written(directory.path(), "other.rs", "\u{feff}fn f() {}\r\n");
    let (code, out, err) = said(&["init", &empty, &other, &other]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(err, format!("{empty}: no function returns a tensor\n{other}: no function returns a tensor\n"));
    let nothing = directory.path().join("nothing");
    fs::create_dir(&nothing).expect("a directory");
    let (code, _, err) = said(&["init", nothing.to_str().expect("UTF-8")]);
    assert_eq!((code, err.as_str()), (Some(0), "no `.rs` file was found\n"));
}

#[test]
fn init_reads_every_source_below_a_directory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path();
    let (a, b) = (written(at, "a.rs", MODEL), written(at, "models/b/c.rs", MODEL));
    written(at, "main.rs", "fn main() {}\n");
    for left_alone in ["target/made.rs", ".git/x.rs", "notes.txt"] {
        written(at, left_alone, MODEL);
    }
    written(at, "target/CACHEDIR.TAG", "");
    #[cfg(unix)]
    std::os::unix::fs::symlink(at, at.join("models/around")).expect("a link");
    let (code, out, err) = said(&["init", "--json", at.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("{\n  \"schema\": \"bitnet-trace/init/1\",\n"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let files = json["files"].as_array().expect("files");
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().expect("a path").to_owned()).collect();
    assert_eq!(paths, [a.clone(), at.join("main.rs").display().to_string(), b]);
    let first = &files[0];
    assert_eq!(first["functions"][0]["name"], "Model::forward");
    assert_eq!((&first["functions"][0]["line"], &first["functions"][0]["attribute"]), (&4.into(), &ATTRIBUTE.into()));
    assert_eq!(first["passed_over"][0]["reason"], "a `const fn` cannot record");
    assert_eq!((&first["written"], &first["error"]), (&false.into(), &serde_json::Value::Null));
    assert!(first["diff"].as_str().is_some_and(|diff| diff.contains("+use bitnet_trace::traced;")), "{first}");
    assert!(err.contains("1 file without a function that returns a tensor"), "{err}");
    assert!(read(&a) == MODEL && !out.contains("around"), "{out}");
}

#[cfg(unix)]
#[test]
fn init_keeps_permissions_and_links_and_respects_what_is_read_only() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = tempfile::tempdir().expect("a temporary directory");
    let mode = |path: &str| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    let path = written(directory.path(), "real/model.rs", MODEL);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    let link = directory.path().join("link.rs");
    symlink(&path, &link).expect("a link");
    let link = link.to_str().expect("UTF-8");
    assert_eq!(said(&["init", "--write", link]).0, Some(0));
    assert!(read(&path).contains(ATTRIBUTE));
    assert!(fs::symlink_metadata(link).expect("there").file_type().is_symlink());
    assert_eq!(mode(&path), 0o640);

    let locked = written(directory.path(), "locked.rs", MODEL);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o444)).expect("set");
    let (code, _, err) = said(&["init", "--write", &locked]);
    assert!(code == Some(2) && err.contains("the file is read-only; make it writable"), "{err}");
    assert_eq!(read(&locked), MODEL);
    assert_eq!(said(&["init", &locked]).0, Some(0), "it is read all the same");
}

/// Standard output is no terminal here: the diff is the text, byte for byte.
#[test]
fn init_prints_control_characters_as_they_are_into_a_pipe() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = "// \u{1b}[2J\r\nfn f() -> Tensor { x }\r\n";
    let path = written(directory.path(), "model.rs", source);
    let (code, out, err) = said(&["init", &path]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(" // \u{1b}[2J\r\n") && out.contains("+#[traced(locals)]\r\n"), "{out:?}");
}

/// The lines of the guide, those that it leaves out apart.
#[test]
fn init_prints_what_the_guide_shows() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = read(repository.join("bitnet-trace/docs/GUIDE.md").to_str().expect("UTF-8"));
    let (_, shown) = guide.split_once("$ bitnet-trace init tests/tests/init/plain.rs\n").expect("the command");
    let (shown, _) = shown.split_once("```").expect("its end");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-trace"));
    let output =
        command.args(["init", "tests/tests/init/plain.rs"]).current_dir(repository).output().expect("it starts");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    let mut rest = said.as_str();
    for part in shown.split("...\n") {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("not printed:\n{part}\nbut:\n{said}"));
        rest = after;
    }
    assert_eq!(rest, "");
}
