//! The script of the page "Two builds", under `git bisect run`: a repository of seven commits, of which the fourth cannot
//! be built and the sixth doubles a weight. `cargo` is replaced by a script that makes a program of the embedded model with
//! the weights of the commit. The test is skipped if a program is missing, unless `REQUIRE_PROGRAMS=1`.
#![cfg(unix)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bitnet_trace_tests::{repository, skip, succeed};

/// Builds `target/release/decoder`; fails if the commit holds a file `broken`.
const CARGO: &str = r"#!/bin/sh
if [ -e broken ]; then exit 101; fi
mkdir -p target/release
printf '#!/bin/sh\nexec bitnet run --model model --prompt 12+34= --max-new-tokens 2\n' > target/release/decoder
chmod +x target/release/decoder
";

/// The first code block of the page that is a whole script.
fn script() -> String {
    let page = fs::read_to_string(repository().join("bitnet-trace/docs/howto/two-builds.md")).expect("the page");
    let start = page.find("#!/bin/sh\n").expect("a script");
    page[start..].split_once("```").expect("its end").0.to_owned()
}

/// The programs of the workspace, beside those of this package: `cargo test --workspace` builds all of them.
fn programs() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_BIN_EXE_scenario")).parent()?.to_owned();
    ["bitnet", "bitnet-trace"].iter().all(|name| directory.join(name).exists()).then_some(directory)
}

/// A repository, and the environment that its commands run in.
struct Repository {
    directory: PathBuf,
    path: OsString,
    commits: Vec<String>,
}

impl Repository {
    fn new(directory: PathBuf, path: OsString) -> Self {
        fs::create_dir_all(directory.join("model")).expect("created");
        let repository = Self { directory, path, commits: Vec::new() };
        repository.git(&["init", "--quiet"]);
        repository
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env("PATH", &self.path).env("HOME", &self.directory);
        command.env_remove("BITNET_TRACE_DIR").env_remove("CARGO_TARGET_DIR").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.org");
        }
        command
    }

    /// What git prints.
    fn git(&self, arguments: &[&str]) -> String {
        let output = succeed(self.command("git").args(arguments));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn commit(&mut self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "-m", message]);
        let head = self.git(&["rev-parse", "HEAD"]);
        self.commits.push(head.trim().to_owned());
    }

    fn write(&self, name: &str, data: &[u8]) {
        fs::write(self.directory.join(name), data).expect("written");
    }

    fn check(&self, script: &Path, reference: &Path) -> Output {
        self.command("sh").arg(script).arg(reference).output().expect("a shell")
    }
}

/// The embedded weights with the last norm doubled.
fn sabotaged() -> Vec<u8> {
    let mut file = fs::read(repository().join("bitnet-models/src/tiny/model.safetensors")).expect("the weights");
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().expect("8 bytes"))).expect("it fits");
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let offset = |at: usize| {
        let offset = header["model.norm.weight"]["data_offsets"][at].as_u64().expect("an offset");
        8 + length + usize::try_from(offset).expect("it fits")
    };
    for element in file[offset(0)..offset(1)].chunks_exact_mut(4) {
        let doubled = f32::from_le_bytes(element.try_into().expect("4 bytes")) * 2.0;
        element.copy_from_slice(&doubled.to_le_bytes());
    }
    file
}

#[test]
fn bisect_finds_the_commit() {
    let Some(programs) = programs() else {
        return skip("REQUIRE_PROGRAMS", "`bitnet-trace` or `bitnet` was not built; `cargo test --workspace` does it");
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bin = directory.path().join("bin");
    fs::create_dir(&bin).expect("created");
    fs::write(bin.join("cargo"), CARGO).expect("written");
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).expect("executable");
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = [bin, programs].into_iter().chain(std::env::split_paths(&inherited));
    let path = std::env::join_paths(path).expect("no colon in a name");

    let mut repo = Repository::new(directory.path().join("repository"), path);
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let from = repository().join("bitnet-models/src/tiny").join(name);
        fs::copy(from, repo.directory.join("model").join(name)).expect("copied");
    }
    repo.write(".gitignore", b"/target\n");
    repo.commit("Add the model");
    for number in 2..=3 {
        repo.write("README", number.to_string().as_bytes());
        repo.commit("Describe it");
    }
    repo.write("broken", b"");
    repo.commit("Forget a file");
    fs::remove_file(repo.directory.join("broken")).expect("removed");
    repo.commit("Add the file");
    repo.write("model/model.safetensors", &sabotaged());
    repo.commit("Train again");
    repo.write("README", b"7");
    repo.commit("Describe it better");

    // The reference lacks a stage that all commits record.
    let script_file = directory.path().join("check-trace.sh");
    fs::write(&script_file, script()).expect("written");
    let reference = directory.path().join("reference");
    let mut run = repo.command("bitnet");
    run.args(["run", "--prompt", "12+34=", "--max-new-tokens", "2"]);
    run.env("BITNET_TRACE_DIR", &reference).env("BITNET_TRACE_FILTER", "stage!=ffn_norm");
    let run = succeed(&mut run);
    assert!(String::from_utf8_lossy(&run.stdout).starts_with("46\n"), "{run:?}");

    // It also leaves a program behind, which is not the one of a commit that does not build.
    let bad = repo.check(&script_file, &reference);
    assert_eq!(bad.status.code(), Some(1), "{}", String::from_utf8_lossy(&bad.stderr));
    repo.git(&["bisect", "start", &repo.commits[6], &repo.commits[0]]);
    let bisect = repo.command("git").args(["bisect", "run", "sh"]).arg(&script_file).arg(&reference).output();
    let bisect = bisect.expect("git starts");
    let said = String::from_utf8_lossy(&bisect.stdout);
    assert!(bisect.status.success(), "{said}\n{}", String::from_utf8_lossy(&bisect.stderr));
    assert!(said.contains(&format!("{} is the first bad commit", repo.commits[5])), "{said}");
    assert!(said.contains("first divergence  t0/final_norm"), "{said}");
    let log = repo.git(&["bisect", "log"]);
    assert!(log.contains(&format!("git bisect skip {}", repo.commits[3])), "{log}");
    repo.git(&["bisect", "reset"]);

    // Neither good nor bad: a reference that cannot be read.
    let missing = repo.check(&script_file, &directory.path().join("nothing"));
    assert_eq!(missing.status.code(), Some(125), "{}", String::from_utf8_lossy(&missing.stderr));
}
