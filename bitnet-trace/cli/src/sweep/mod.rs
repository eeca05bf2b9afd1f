//! `bitnet-trace sweep PLAN.toml`
//!
//! `plan` and `template` read the plan. `scenario` runs a scenario: its sides (`side`, each in a process group of
//! `group`), then the check of the tokens (`tokens`) and the comparison. `result` is what it comes to, `screen` and
//! `index` show it, and `directory` is where all of it is kept.

mod directory;
mod group;
mod index;
mod plan;
mod result;
mod scenario;
mod screen;
mod side;
mod template;
mod tokens;

use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitnet_trace_core::report::printable;
use clap::Args;
use serde::Serialize;

use self::directory::Directory;
use self::index::Index;
use self::plan::Plan;
use self::result::ScenarioResult;
use self::screen::Screen;
use crate::outcome::{Outcome, WithSchema, progress};

/// Runs scenarios through two programs and compares the traces of each
///
/// A plan has the commands of the two sides and the scenarios: prompts, token ids, numbers of steps. Each scenario runs
/// the reference, then the trace, each with `BITNET_TRACE_DIR` set to a directory of its own, and compares the two. A
/// scenario that is finished is not run again: after an interruption, the same command goes on where it stopped.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Sweep {
    /// The plan, a TOML file
    plan: PathBuf,
    /// The directory for traces, logs and reports
    #[arg(short, long, value_name = "DIR", default_value = "sweep")]
    output: PathBuf,
    /// The number of scenarios that run at a time
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: NonZero<usize>,
    /// Run every scenario, also those that are finished; needed after a change of the programs, which the plan does
    /// not show
    #[arg(long)]
    again: bool,
    /// Print the results as one JSON object, whose field `schema` is `bitnet-trace/sweep/1`
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = r#"A plan:
  timeout = "2m"                  # for each run
  map = ["hf"]                    # as in `diff`, like tolerance, rel_l2, only_common
  [reference]
  command = ["python3", "reference.py", "--prompt", "{prompt}", "--steps", "{steps}"]
  env = { OMP_NUM_THREADS = "1" }
  [trace]
  command = ["bitnet", "run", "--prompt", "{prompt}", "--max-new-tokens", "{steps}"]
  [[scenario]]
  name = "sum"
  prompt = "12+34="
  steps = 4

Placeholders: {name}, {prompt}, {steps} and {tokens} of the scenario; {dir}, the
directory that the side records into; {reference}, the trace of the reference.
With `force = "reference"`, the command of `[trace]` has to decode the tokens of
{reference}, as `bitnet run --force {reference}` does. No shell is involved.
Commands run in the directory of the plan.

Exit codes:
  0  every scenario matches
  1  a scenario diverged, computed different tokens, or has records that were
     not compared or have no partner
  2  wrong usage, a plan that cannot be read; or a side failed, nothing was
     compared or something could not be read (unless a scenario diverged)"#;

/// The version of the output of `--json`.
const SCHEMA: &str = "bitnet-trace/sweep/1";

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    index: String,
    scenarios: &'a [ScenarioResult],
}

impl Sweep {
    pub(crate) fn execute(&self) -> Outcome {
        let plan = Plan::open(&self.plan)?;
        let out = Directory::open(&self.output)?;
        let results = self.run_all(&plan, &out);
        let index = Index { plan: &self.plan.display().to_string(), results: &results }.to_string();
        directory::write(&out.index(), &index)?;

        let mut stdout = anstream::stdout().lock();
        let index = self.output.join(directory::INDEX).display().to_string();
        if self.json {
            serde_json::to_writer(
                &mut stdout,
                &WithSchema { schema: SCHEMA, content: &Report { index, scenarios: &results } },
            )?;
            writeln!(stdout)?;
        } else {
            writeln!(stdout, "{}{}", Screen(&results), printable(&index))?;
        }
        Ok(result::exit(&results))
    }

    /// The results in the order of the plan.
    fn run_all(&self, plan: &Plan, out: &Directory) -> Vec<ScenarioResult> {
        let all = plan.scenarios.len();
        let bar = progress("scenarios");
        bar.set_length(all as u64);
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(Vec::with_capacity(all));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(scenario) = plan.scenarios.get(at) else { return };
                let earlier = if self.again { None } else { scenario::finished(plan, scenario, out) };
                let origin = if earlier.is_some() { " (finished earlier)" } else { "" };
                let result = earlier.unwrap_or_else(|| scenario::run(plan, scenario, out));
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                bar.set_position(done as u64);
                if !io::stderr().is_terminal() {
                    let line = format!("{done}/{all} {}: {}{origin}\n", result.name, result.verdict.words());
                    let _ = io::stderr().write_all(line.as_bytes());
                }
                // A panic of another thread is passed on when the scope ends.
                if let Ok(mut results) = results.lock() {
                    results.push((at, result));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.jobs.get().min(all) {
                // Fewer threads do the work too.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        bar.finish_and_clear();
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}
