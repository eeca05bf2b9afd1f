//! `bitnet-trace sweep` with shell scripts as sides.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for another process.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records two steps of three stages. `$1` is the scenario, `$2` the factor of the stage `$3`. Each call adds a line
/// to `calls`.
const SIDE: &str = r#"
echo "$1 $(basename "$BITNET_TRACE_DIR")" >> calls
mkdir -p "$BITNET_TRACE_DIR"
order=0
for step in 0 1; do
    for stage in embeddings q_proj logits; do
        order=$((order + 1)) rms=1.0 hash=0
        if [ "$stage" = "$3" ]; then rms=$2 hash=$2; fi
        echo '{"name":"t'$step/$stage'","seq":'$step',"stage":"'$stage'","shape":[2],"dtype":"F32","num_elements":2,"rms":'$rms',"min":-1.0,"max":1.0,"mean":0.0,"blake3":"'$(printf %064d $hash)'","order":'$order'}'
    done
done > "$BITNET_TRACE_DIR/trace.jsonl"
"#;

/// A plan in a directory of its own, with a script for each side.
struct Plan(tempfile::TempDir);

impl Plan {
    /// `reference` and `trace` run after `SIDE` has recorded, with its arguments. `{reference}` is `$4` of the trace.
    fn new(head: &str, scenarios: &[&str], reference: &str, trace: &str) -> Self {
        let plan = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::write(plan.path("reference.sh"), format!("{SIDE}\n{reference}")).expect("written");
        fs::write(plan.path("trace.sh"), format!("{SIDE}\n{trace}")).expect("written");
        let sides = "[reference]\ncommand = [\"sh\", \"reference.sh\", \"{name}\"]\n\
                     [trace]\ncommand = [\"sh\", \"trace.sh\", \"{name}\", \"{steps}\", \"{prompt}\", \"{reference}\"]\n";
        plan.write(&format!("{head}\n{sides}{}", scenarios.join("\n")));
        plan
    }

    fn write(&self, text: &str) {
        fs::write(self.path("plan.toml"), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-trace"));
        command.arg("sweep").arg(self.path("plan.toml")).arg("-o").arg(self.path("out")).args(more);
        command
    }

    /// Exit status, standard output and standard error.
    fn sweep(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command(more).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    /// The results by `--json`.
    fn results(&self, more: &[&str]) -> (Option<i32>, Vec<Value>) {
        let (code, out, err) = self.sweep(&[more, &["--json"]].concat());
        assert!(out.starts_with(r#"{"schema":"bitnet-trace/sweep/1","#), "{out}{err}");
        let json: Value = serde_json::from_str(&out).expect("JSON");
        (code, json["scenarios"].as_array().expect("a list").clone())
    }

    /// The lines of `calls` so far, which are then forgotten.
    fn calls(&self) -> Vec<String> {
        let calls = self.read("calls").lines().map(str::to_owned).collect();
        let _ = fs::remove_file(self.path("calls"));
        calls
    }
}

/// A scenario whose trace multiplies a stage.
fn scenario(name: &str, factor: u32, stage: &str) -> String {
    format!("[[scenario]]\nname = \"{name}\"\nprompt = \"{stage}\"\nsteps = {factor}\n")
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs. A dead one that nobody has waited for does not.
fn is_alive(process: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", process]).output().expect("ps");
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn five_scenarios_name_the_sabotaged_stage_of_each() {
    let stages = ["embeddings", "q_proj", "logits", "q_proj", "logits"];
    let scenarios: Vec<_> = (0..).zip(stages).map(|(n, stage)| scenario(&format!("s{n}"), 3 + n, stage)).collect();
    let plan = Plan::new("", &scenarios.iter().map(String::as_str).collect::<Vec<_>>(), "", "");
    let (code, out, err) = plan.sweep(&["--jobs", "2"]);
    assert_eq!(code, Some(1), "{out}{err}");
    for (n, stage) in stages.iter().enumerate() {
        let line = out.lines().find(|line| line.starts_with(&format!("s{n} "))).expect("a line each");
        assert!(line.contains("diverged") && line.contains(&format!("t0/{stage}")), "{out}");
        assert!(err.contains(&format!("s{n}: diverged\n")), "{err}");
        let index = plan.read("out/index.html");
        assert!(index.contains(&format!("<a href=\"s{n}/report.html\">s{n}</a>")), "{index}");
        assert!(plan.read(&format!("out/s{n}/report.html")).contains(&format!("s{n}/reference")));
    }
    assert!(out.contains("5 scenarios: 5 diverged"), "{out}");
    let (code, results) = plan.results(&[]);
    let first = |result: &Value| (result["first"]["stage"].clone(), result["first"]["seq"].clone());
    assert_eq!(code, Some(1));
    assert_eq!(results.iter().map(first).collect::<Vec<_>>(), stages.map(|stage| (stage.into(), 0.into())));
}

#[test]
fn what_is_finished_is_not_run_again() {
    let (a, b) = (scenario("a", 1, "none"), scenario("b", 1, "none"));
    let plan = Plan::new("", &[&a, &b], "", "");
    assert_eq!(plan.sweep(&[]).0, Some(0));
    assert_eq!(plan.calls(), ["a reference", "a trace", "b reference", "b trace"]);
    let (code, _, err) = plan.sweep(&[]);
    assert_eq!((code, plan.calls().len()), (Some(0), 0));
    assert!(err.contains("1/2 a: match (finished earlier)"), "{err}");
    // A scenario that has changed, one whose report is gone, and all of them.
    plan.write(
        &plan.read("plan.toml").replace("name = \"b\"\nprompt = \"none\"", "name = \"b\"\nprompt = \"no stage\""),
    );
    assert_eq!((plan.sweep(&[]).0, plan.calls()), (Some(0), vec!["b reference".to_owned(), "b trace".to_owned()]));
    fs::remove_file(plan.path("out/a/report.html")).expect("removed");
    assert_eq!((plan.sweep(&[]).0, plan.calls()), (Some(0), vec!["a reference".to_owned(), "a trace".to_owned()]));
    assert_eq!((plan.sweep(&["--again"]).0, plan.calls().len()), (Some(0), 4));
}

#[test]
fn a_side_that_is_killed_is_named_and_the_others_go_on() {
    let (a, b) = (scenario("a", 1, "none"), scenario("b", 1, "none"));
    let killed = "if [ $1 = a ] && [ ! -e mended ]; then echo out of luck >&2; kill -9 $$; fi";
    let plan = Plan::new("", &[&a, &b], "", killed);
    let (code, out, err) = plan.sweep(&[]);
    assert_eq!(code, Some(2), "{out}{err}");
    for part in ["a: trace was killed by signal 9", "  | out of luck", "2 scenarios: 1 match, 1 failed"] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(plan.read("out/index.html").contains("out of luck"));
    fs::write(plan.path("mended"), "").expect("written");
    plan.calls();
    assert_eq!((plan.sweep(&[]).0, plan.calls()), (Some(0), vec!["a reference".to_owned(), "a trace".to_owned()]));
}

#[test]
fn other_failures_of_a_side_are_named_too() {
    for (trace, part) in [
        ("exit 3", "a: trace ended with exit code 3"),
        ("rm -r \"$BITNET_TRACE_DIR\"", "a: trace recorded nothing"),
        ("rm \"$BITNET_TRACE_DIR/trace.jsonl\"", "out/a/trace"),
    ] {
        let plan = Plan::new("", &[&scenario("a", 1, "none")], "", trace);
        let (code, out, err) = plan.sweep(&[]);
        assert!(code == Some(2) && out.contains(part) && out.contains("1 failed"), "{trace}: {code:?} {out}{err}");
    }
    let plan = Plan::new("", &[&scenario("a", 1, "none")], "", "");
    plan.write(&plan.read("plan.toml").replace("\"sh\", \"trace.sh\"", "\"./no-such-program\""));
    let (code, out, _) = plan.sweep(&[]);
    assert!(code == Some(2) && out.contains("a: trace cannot start `") && out.contains("no-such-program"), "{out}");
}

#[test]
fn a_sweep_that_is_killed_takes_its_sides_along_and_is_resumed() {
    let (a, b) = (scenario("a", 1, "none"), scenario("b", 7, "q_proj"));
    let waits =
        "if [ $1 = b ] && [ ! -e go ]; then sleep 1000 & echo $! $$ > sleeps.new; mv sleeps.new sleeps; wait; fi";
    let plan = Plan::new("", &[&a, &b], "", waits);
    let mut sweep = plan.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until("the second scenario", || plan.path("sleeps").exists());
    let processes = plan.read("sleeps");
    assert!(processes.split_whitespace().all(is_alive), "{processes}");
    let (code, _, err) = plan.sweep(&[]);
    assert!(code == Some(2) && err.contains("another sweep is running"), "{code:?} {err}");
    sweep.kill().expect("killed");
    sweep.wait().expect("it ended");
    until("the end of the side", || !processes.split_whitespace().any(is_alive));

    assert!(plan.path("out/a/result.json").exists() && !plan.path("out/b/result.json").exists());
    fs::write(plan.path("go"), "").expect("written");
    plan.calls();
    let (code, results) = plan.results(&[]);
    assert_eq!((code, plan.calls()), (Some(1), vec!["b reference".to_owned(), "b trace".to_owned()]));
    assert_eq!((&results[0]["verdict"], &results[1]["first"]["stage"]), (&"match".into(), &"q_proj".into()));
}

#[test]
fn a_side_whose_time_is_up_is_killed_with_all_it_started() {
    let hangs = "sleep 1000 & echo $! $$ > sleeps; wait";
    let plan = Plan::new("timeout = \"1s\"", &[&scenario("a", 1, "none")], hangs, "");
    let start = Instant::now();
    let (code, out, _) = plan.sweep(&[]);
    assert!(start.elapsed() < PATIENCE && code == Some(2), "{out}");
    assert!(out.contains("a: reference did not end within 1s and was killed"), "{out}");
    assert_eq!(plan.calls(), ["a reference"]);
    let processes = plan.read("sleeps");
    until("the end of the side", || !processes.split_whitespace().any(is_alive));
}

#[test]
fn with_several_jobs_scenarios_run_at_the_same_time() {
    let (a, b) = (scenario("a", 1, "none"), scenario("b", 1, "none"));
    let meets = "touch here.$1; until [ -e here.a ] && [ -e here.b ]; do sleep 0.05; done";
    let plan = Plan::new("timeout = \"60s\"", &[&a, &b], meets, "");
    let (code, out, err) = plan.sweep(&["--jobs", "2"]);
    assert_eq!(code, Some(0), "{out}{err}");
}

/// Writes `run.json` with these lists of tokens.
fn annotates(tokens: &str) -> String {
    format!(r#"echo '{{"schema":"bitnet-trace/1","annotations":{{{tokens}}}}}' > "$BITNET_TRACE_DIR/run.json""#)
}

#[test]
fn no_stage_is_blamed_for_what_other_tokens_computed() {
    let scenario = scenario("a", 5, "logits");
    let reference = annotates(r#""prompt_tokens":[1,2],"generated_tokens":[7,8]"#);
    for (trace, verdict, note) in [
        (r#""prompt_tokens":[1,2],"generated_tokens":[7,8]"#, "diverged", None),
        (
            r#""prompt_tokens":[1,3]"#,
            "tokens-differ",
            Some("`prompt_tokens` differ from index 1: reference [1, 2], trace [1, 3]"),
        ),
        // The divergence in step 0 chose the first token, so it explains it.
        (
            r#""prompt_tokens":[1,2],"generated_tokens":[9,8]"#,
            "diverged",
            Some("generated token 0 differs: reference 7, trace 9"),
        ),
    ] {
        let plan = Plan::new("", &[&scenario], &reference, &annotates(trace));
        let (code, results) = plan.results(&[]);
        let stage = if verdict == "diverged" { Value::from("logits") } else { Value::Null };
        assert_eq!((code, &results[0]["verdict"]), (Some(1), &verdict.into()), "{results:?}");
        assert_eq!((&results[0]["first"]["stage"], results[0]["notes"][0].as_str()), (&stage, note), "{results:?}");
    }
    // Nothing diverged before the tokens did.
    let plan =
        Plan::new("", &[&scenario.replace("logits", "none")], &reference, &annotates(r#""generated_tokens":[7]"#));
    let (code, results) = plan.results(&[]);
    assert_eq!((code, &results[0]["verdict"]), (Some(1), &"tokens-differ".into()), "{results:?}");
}

#[test]
fn with_force_the_trace_is_given_the_trace_of_the_reference() {
    let copies = r#"cp "$4/run.json" "$BITNET_TRACE_DIR/run.json""#;
    let reference = annotates(r#""prompt_tokens":[1,2],"generated_tokens":[7,8]"#);
    let plan = Plan::new("force = \"reference\"", &[&scenario("a", 5, "q_proj")], &reference, copies);
    let (code, results) = plan.results(&[]);
    assert_eq!((code, &results[0]["first"]["stage"]), (Some(1), &"q_proj".into()), "{results:?}");
    assert_eq!(plan.read("out/a/trace/run.json"), plan.read("out/a/reference/run.json"));
}

#[test]
fn bad_plans_and_directories_of_others_are_refused() {
    let plan = Plan::new("", &[&scenario("a", 1, "none")], "", "");
    let good = plan.read("plan.toml");
    plan.write(&good.replace("steps = 1", "stesp = 1"));
    let (code, _, err) = plan.sweep(&[]);
    assert!(
        code == Some(2) && err.contains("plan.toml: line 9, column 1: unknown key `stesp`, did you mean `steps`?"),
        "{err}"
    );
    plan.write(&good);
    fs::create_dir(plan.path("out")).expect("created");
    fs::write(plan.path("out/precious"), "").expect("written");
    let (code, _, err) = plan.sweep(&[]);
    assert!(code == Some(2) && err.contains("is not the directory of a sweep"), "{err}");
    assert!(plan.calls().is_empty() && Path::new(&plan.path("out/precious")).exists());
    let none = Command::new(env!("CARGO_BIN_EXE_bitnet-trace")).args(["sweep", "/no/such/plan.toml"]).output();
    let none = none.expect("it starts");
    assert_eq!(
        (none.status.code(), String::from_utf8_lossy(&none.stderr).contains("/no/such/plan.toml")),
        (Some(2), true)
    );
}
