//! Annotates the source files of a package.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bitnet_trace_annotate::{Annotated, PassedOver, Style, annotate};

use crate::Failure;
use crate::exceptions::Exception;
use crate::package::Copy;

/// The annotated files of a package.
pub(crate) struct Annotations {
    files: BTreeMap<String, Annotated>,
    /// The functions that the annotator leaves alone, with their files.
    pub(crate) passed_over: Vec<(String, PassedOver)>,
}

impl Annotations {
    /// Annotates every Rust file in `src`.
    pub(crate) fn of(copy: &Copy) -> Result<Self, Failure> {
        let mut found = Self { files: BTreeMap::new(), passed_over: Vec::new() };
        let mut folders = vec![copy.directory.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.add(copy, &path)?;
                }
            }
        }
        found.passed_over.sort_by(|a, b| (&a.0, a.1.line).cmp(&(&b.0, b.1.line)));
        Ok(found)
    }

    fn add(&mut self, copy: &Copy, path: &Path) -> Result<(), Failure> {
        let name = path.strip_prefix(&copy.directory)?.to_string_lossy().into_owned();
        let source = fs::read_to_string(path)?;
        let annotated = annotate(&source, Style::Locals).map_err(|error| format!("{name}: {error}"))?;
        self.passed_over.extend(annotated.passed_over.iter().map(|passed| (name.clone(), passed.clone())));
        if !annotated.functions.is_empty() {
            self.files.insert(name, annotated);
        }
        Ok(())
    }

    /// The number of files with annotated functions.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// The number of annotated functions.
    pub(crate) fn functions(&self, exceptions: &[Exception]) -> usize {
        self.files.values().map(|file| file.functions.len()).sum::<usize>() - exceptions.len()
    }

    /// The text of each annotated file. The exceptions have no attribute.
    pub(crate) fn sources(&self, exceptions: &[Exception]) -> Result<BTreeMap<String, String>, Failure> {
        for Exception { file, function, .. } in exceptions {
            let annotated = self.files.get(*file).map_or(&[][..], |file| &file.functions);
            if annotated.iter().filter(|annotated| annotated.name == *function).count() != 1 {
                return Err(format!("expected one function {function} in {file}, which is an exception").into());
            }
        }
        let without = |(name, annotated): (&String, &Annotated)| {
            let of_file: Vec<_> = exceptions.iter().filter(|exception| exception.file == *name).collect();
            (name.clone(), without_attributes(annotated, &of_file))
        };
        Ok(self.files.iter().map(without).collect())
    }
}

/// Every attribute has a line of its own, in the order of the functions.
fn without_attributes(annotated: &Annotated, exceptions: &[&Exception]) -> String {
    let mut functions = annotated.functions.iter().peekable();
    let mut source = String::with_capacity(annotated.source.len());
    for line in annotated.source.split_inclusive('\n') {
        let of_line = functions.next_if(|function| line.trim() == function.attribute);
        let is_left_out = of_line.is_some_and(|function| exceptions.iter().any(|one| one.function == function.name));
        if !is_left_out {
            source.push_str(line);
        }
    }
    source
}
