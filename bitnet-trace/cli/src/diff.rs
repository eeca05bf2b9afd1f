//! `bitnet-trace diff REFERENCE TRACE`

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitnet_trace_core::Tolerance;
use bitnet_trace_core::compare::{Comparison, Conclusion, DiffOptions, NameMap, diff_paths};
use bitnet_trace_core::report::Screen;
use clap::Args;

use crate::outcome::{DIFFERS, FAILED, Outcome, progress};

/// What two traces are compared by.
#[derive(Args)]
pub(crate) struct Sides {
    /// The trace that is right: a directory, or a `.jsonl` file
    pub(crate) reference: PathBuf,
    /// The trace that is asked about
    pub(crate) trace: PathBuf,
    /// A TOML file of `[[rule]]`s: `stage`, `layer`, `rel_l2`, `max_abs`, `cosine`
    #[arg(long, value_name = "FILE", conflicts_with = "rel_l2")]
    tolerance: Option<PathBuf>,
    /// One relative L2 error that is allowed everywhere
    #[arg(long, value_name = "ERROR")]
    rel_l2: Option<f64>,
    /// Names of another program: `hf`, `llama.cpp`, or a TOML file of `[[map]]`s; may be given several
    /// times, the first rule that fits decides
    #[arg(long, value_name = "PRESET|FILE")]
    map: Vec<String>,
    /// Records that only one side has are no difference
    #[arg(long)]
    only_common: bool,
}

impl Sides {
    pub(crate) fn compare(&self) -> Result<Comparison, Box<dyn Error>> {
        let tolerance = match (&self.tolerance, self.rel_l2) {
            (Some(file), _) => Tolerance::open(file)?,
            (None, Some(limit)) if limit >= 0.0 => Tolerance::rel_l2(limit),
            (None, Some(limit)) => {
                return Err(format!("--rel-l2 is {limit}, expected a number that is not negative").into());
            }
            (None, None) => Tolerance::default(),
        };
        let maps = self.map.iter().map(|name| match NameMap::preset(name) {
            Some(map) => Ok(map),
            None if Path::new(name).exists() => Ok(NameMap::open(name)?),
            None => Err(format!("--map is {name:?}, expected `hf`, `llama.cpp` or a TOML file").into()),
        });
        let map = maps.reduce(|one, next| Ok::<_, Box<dyn Error>>(one?.and(next?))).transpose()?.unwrap_or_default();
        let options = DiffOptions::default().with_tolerance(tolerance).with_map(map).with_only_common(self.only_common);
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

/// 0 where everything matches and could be read, 1 where something differs or is missing, 2 where
/// something could not be read or nothing was compared.
pub(crate) fn exit_code(comparison: &Comparison) -> ExitCode {
    match comparison.conclusion() {
        Conclusion::Matches => ExitCode::SUCCESS,
        Conclusion::Differs | Conclusion::Missing | Conclusion::NotAllCompared => ExitCode::from(DIFFERS),
        Conclusion::NotAllRead | Conclusion::NothingCompared => ExitCode::from(FAILED),
    }
}

/// Finds the first divergence of two traces
#[derive(Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    sides: Sides,
    /// Lists every pair
    #[arg(long)]
    all: bool,
    /// Prints the whole comparison as one JSON object
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(crate) fn execute(&self) -> Outcome {
        let comparison = self.sides.compare()?;
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &comparison)?;
            writeln!(out)?;
        } else {
            let [reference, trace] = self.sides.names();
            let screen = Screen::new(&comparison).with_names([&reference, &trace]).with_all(self.all).to_string();
            print(&mut out, &screen)?;
        }
        Ok(exit_code(&comparison))
    }
}

/// The verdict in colour; where the output takes none, or `NO_COLOR` is set, it is left out.
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
