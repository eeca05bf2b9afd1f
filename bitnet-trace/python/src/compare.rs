//! Comparisons of traces, and the map of names.
//!
//! `unsafe` is needed here because the macros of pyo3 expand to it.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use bitnet_trace_core::Tolerance;
use bitnet_trace_core::compare::{self, Comparison as CoreComparison, DiffOptions, NameMap};
use bitnet_trace_core::report::{Html, Screen};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::trace::Trace;
use crate::{TraceError, raised};

#[pyclass(frozen)]
pub(crate) struct Comparison {
    comparison: CoreComparison,
    names: [String; 2],
}

#[pymethods]
impl Comparison {
    #[getter]
    fn matches(&self) -> bool {
        self.comparison.matches()
    }

    /// The whole comparison as a JSON object.
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.comparison).map_err(|error| TraceError::new_err(error.to_string()))
    }

    fn screen(&self, all: bool) -> String {
        Screen::new(&self.comparison).with_names(self.names()).with_all(all).to_string()
    }

    fn html(&self) -> String {
        Html::new(&self.comparison).with_names(self.names()).to_string()
    }
}

impl Comparison {
    fn names(&self) -> [&str; 2] {
        self.names.each_ref().map(String::as_str)
    }
}

/// The maps one after the other: names of presets, or paths of TOML files.
fn maps(names: &[String]) -> PyResult<NameMap> {
    names.iter().try_fold(NameMap::default(), |map, name| {
        let next = match NameMap::preset(name) {
            Some(preset) => preset,
            None if Path::new(name).exists() => NameMap::open(name).map_err(|error| raised(&error))?,
            None => {
                let message = format!("`map` is {name:?}, expected the name of a preset, such as `hf`, or a TOML file");
                return Err(PyValueError::new_err(message));
            }
        };
        Ok(map.and(next))
    })
}

fn options(
    map: &[String],
    rel_l2: Option<f64>,
    tolerance: Option<PathBuf>,
    only_common: bool,
) -> PyResult<DiffOptions> {
    let tolerance = match (tolerance, rel_l2) {
        (Some(path), _) => Tolerance::open(path).map_err(|error| raised(&error))?,
        (None, Some(limit)) if limit >= 0.0 => Tolerance::rel_l2(limit),
        (None, Some(limit)) => {
            return Err(PyValueError::new_err(format!(
                "`tolerance` is {limit}, expected a number that is not negative"
            )));
        }
        (None, None) => Tolerance::default(),
    };
    Ok(DiffOptions::default().with_tolerance(tolerance).with_map(maps(map)?).with_only_common(only_common))
}

/// Compares two traces.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, clippy::too_many_arguments)] // as pyo3 converts arguments
#[pyo3(signature = (reference, trace, names, map, rel_l2, tolerance, only_common))]
pub(crate) fn diff(
    py: Python<'_>,
    reference: &Trace,
    trace: &Trace,
    names: [String; 2],
    map: Vec<String>,
    rel_l2: Option<f64>,
    tolerance: Option<PathBuf>,
    only_common: bool,
) -> PyResult<Comparison> {
    let options = options(&map, rel_l2, tolerance, only_common)?;
    let comparison = py.detach(|| compare::diff_with(&reference.0, &trace.0, &options));
    Ok(Comparison { comparison, names })
}

/// Compares two trace directories without holding their records in memory.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as pyo3 converts arguments
#[pyo3(signature = (reference, trace, map, rel_l2, tolerance, only_common))]
pub(crate) fn diff_paths(
    py: Python<'_>,
    reference: PathBuf,
    trace: PathBuf,
    map: Vec<String>,
    rel_l2: Option<f64>,
    tolerance: Option<PathBuf>,
    only_common: bool,
) -> PyResult<Comparison> {
    let options = options(&map, rel_l2, tolerance, only_common)?;
    let compared = py.detach(|| compare::diff_paths(&reference, &trace, &options, &mut |_, _| ()));
    let names = [&reference, &trace].map(|path| path.display().to_string());
    Ok(Comparison { comparison: compared.map_err(|error| raised(&error))?, names })
}

/// For each name the rules that apply to it: the number of the tensor, the stage, the layer, and whether the stage is
/// left out of a comparison unless both sides have it.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, clippy::type_complexity)] // a list of lists of tuples in Python
pub(crate) fn map_targets(
    map: Vec<String>,
    names: Vec<String>,
) -> PyResult<Vec<Vec<(Option<usize>, Option<String>, Option<usize>, bool)>>> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let targets = maps(&map)?.targets(&names).into_iter();
    Ok(targets
        .map(|rules| rules.into_iter().map(|rule| (rule.call, rule.stage, rule.layer, rule.optional)).collect())
        .collect())
}
