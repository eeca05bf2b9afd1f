//! `bitnet-trace diff REFERENCE TRACE`

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitnet_trace_core::Tolerance;
use bitnet_trace_core::compare::{Comparison, Conclusion, DiffOptions, NameMap, diff_paths};
use bitnet_trace_core::report::Screen;
use clap::Args;

use crate::outcome::{DIFFERS, FAILED, Outcome, WithSchema, progress};

/// The arguments of `diff` and `report`: the two traces, and how they are compared.
#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The trace of the run that is known to be right: a directory, or a `.jsonl` file
    pub(crate) reference: PathBuf,
    /// The trace to check against it: a directory, or a `.jsonl` file
    pub(crate) trace: PathBuf,
    /// A TOML file with the allowed differences: `[[rule]]` tables with the keys `stage`, `layer`, `rel_l2`, `max_abs`
    /// and `cosine`; the first rule that matches a record applies
    #[arg(long, value_name = "FILE", conflicts_with = "rel_l2")]
    tolerance: Option<PathBuf>,
    /// The relative L2 error that is allowed for every record [default: by dtype, 1e-5 for F32, 1e-3 for F16, 1.6e-2
    /// for BF16]
    #[arg(long, value_name = "ERROR")]
    rel_l2: Option<f64>,
    /// Maps the record names of another program to stages: `hf`, `llama.cpp`, `candle-transformers/MODEL`
    /// (`llama`, `quantized_llama`, `qwen2`, `mistral`, `gemma`), or a TOML file with `[[map]]` tables; may be given
    /// several times, the first rule that matches a name applies
    #[arg(long, value_name = "PRESET|FILE")]
    map: Vec<String>,
    /// Ignore records that only one of the traces has: they no longer make the exit code 1
    #[arg(long)]
    only_common: bool,
}

impl CompareArgs {
    pub(crate) fn compare(&self) -> Result<Comparison, Box<dyn Error>> {
        let wanted = Wanted { tolerance: self.tolerance.as_deref(), rel_l2: self.rel_l2, map: &self.map };
        let options = wanted.options(["--rel-l2", "--map"])?.with_only_common(self.only_common);
        let bar = progress("comparing");
        let comparison = diff_paths(&self.reference, &self.trace, &options, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        Ok(comparison?)
    }

    pub(crate) fn names(&self) -> [String; 2] {
        [&self.reference, &self.trace].map(|path| path.display().to_string())
    }
}

/// The limits and the map of a comparison as the user wrote them, on the command line or in the plan of a sweep.
pub(crate) struct Wanted<'a> {
    pub(crate) tolerance: Option<&'a Path>,
    pub(crate) rel_l2: Option<f64>,
    pub(crate) map: &'a [String],
}

impl Wanted<'_> {
    /// Reads the files. Errors call the limit and the map by these names.
    pub(crate) fn options(&self, [rel_l2_name, map_name]: [&str; 2]) -> Result<DiffOptions, Box<dyn Error>> {
        let tolerance = match (self.tolerance, self.rel_l2) {
            (Some(file), _) => Tolerance::open(file)?,
            (None, Some(limit)) if limit >= 0.0 => Tolerance::rel_l2(limit),
            (None, Some(limit)) => {
                return Err(format!("{rel_l2_name} is {limit}, expected a number that is not negative").into());
            }
            (None, None) => Tolerance::default(),
        };
        let maps = self.map.iter().map(|name| match NameMap::preset(name) {
            Some(map) => Ok(map),
            None if Path::new(name).exists() => Ok(NameMap::open(name)?),
            None => {
                let presets: Vec<_> = NameMap::presets().map(|name| format!("`{name}`")).collect();
                Err(format!("{map_name} is {name:?}, expected {} or a TOML file", presets.join(", ")).into())
            }
        });
        let map = maps.reduce(|one, next| Ok::<_, Box<dyn Error>>(one?.and(next?))).transpose()?.unwrap_or_default();
        Ok(DiffOptions::default().with_tolerance(tolerance).with_map(map))
    }
}

/// 0 if everything matches and could be read; 1 if something differs, is missing or could not be compared; 2 if
/// something could not be read or nothing was compared.
pub(crate) fn exit_code(comparison: &Comparison) -> ExitCode {
    match comparison.conclusion() {
        Conclusion::Matches => ExitCode::SUCCESS,
        Conclusion::Differs | Conclusion::Missing | Conclusion::NotAllCompared => ExitCode::from(DIFFERS),
        // A conclusion that this command does not know is no success.
        _ => ExitCode::from(FAILED),
    }
}

/// Compares two traces and prints the first divergence
///
/// Aligns the records of the two traces, compares the pairs in execution order, and prints the first pair that does not
/// match: how much the tensors differ, where in the source the tensor was recorded and, if the numbers show it, what
/// caused the difference. Then it lists the divergences that follow, and the records that only one of the traces has.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Diff {
    #[command(flatten)]
    sides: CompareArgs,
    /// List every pair, not only the divergences
    #[arg(long)]
    all: bool,
    /// Print the whole comparison as one JSON object, whose field `schema` is `bitnet-trace/diff/1`
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  bitnet-trace diff before after
  bitnet-trace diff before after --rel-l2 1e-4 --all
  bitnet-trace diff transformers-trace my-trace --map hf --only-common

Exit codes:
  0  everything matches, and everything could be read
  1  a pair diverged or could not be compared, or a record has no partner (unless --only-common)
  2  wrong usage, input that could not be read in whole or in part (unless a pair diverged), or nothing was compared";

/// The version of the output of `--json`.
const SCHEMA: &str = "bitnet-trace/diff/1";

impl Diff {
    pub(crate) fn execute(&self) -> Outcome {
        let comparison = self.sides.compare()?;
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &WithSchema { schema: SCHEMA, content: &comparison })?;
            writeln!(out)?;
        } else {
            let [reference, trace] = self.sides.names();
            let screen = Screen::new(&comparison).with_names([&reference, &trace]).with_all(self.all).to_string();
            print(&mut out, &screen)?;
        }
        Ok(exit_code(&comparison))
    }
}

/// Prints the screen with its headline in colour. `anstream` drops the colour if the output is not a terminal, or if
/// `NO_COLOR` is set.
fn print(out: &mut impl Write, screen: &str) -> io::Result<()> {
    let (red, green) = (anstyle::AnsiColor::Red.on_default().bold(), anstyle::AnsiColor::Green.on_default().bold());
    for line in screen.lines() {
        match line {
            line if ["first divergence", "nothing was", "no divergence"]
                .iter()
                .any(|start| line.starts_with(start)) =>
            {
                writeln!(out, "{red}{line}{red:#}")?;
            }
            line if line.starts_with("match:") => writeln!(out, "{green}{line}{green:#}")?,
            line => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}
