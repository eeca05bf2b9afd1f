//! Runs cargo on a copy of the package and reads what the compiler says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Failure;
use crate::package::{Copy, cargo, write};

/// An error or a warning.
pub(crate) struct Diagnostic {
    /// What it is, wherever in the file: lint or code, message and file.
    pub(crate) kind: (String, String, String),
    /// As the compiler prints it.
    pub(crate) text: String,
}

/// What the compiler says about a package.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Copy {
    /// A command of cargo in the folder of the package. Built dependencies are those of the workspace.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        command.args(["--lib", "--offline", "--target-dir"]).arg(&self.target);
        command.current_dir(&self.directory).stderr(Stdio::inherit());
        command
    }

    /// Runs `cargo check`.
    pub(crate) fn check(&self) -> Result<Checked, Failure> {
        let mut command = self.cargo(&["check", "--quiet", "--message-format=json"]);
        let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
        let mut checked = Checked::default();
        for line in String::from_utf8(output.stdout)?.lines() {
            let message: Value = serde_json::from_str(line)?;
            let of_package =
                message["target"]["src_path"].as_str().is_some_and(|path| Path::new(path).starts_with(&self.directory));
            if message["reason"] != "compiler-message" {
                continue;
            }
            checked.add(&message["message"], of_package);
        }
        if checked.errors.is_empty() && !output.status.success() {
            return Err(format!("cargo check fails in {} for another reason", self.directory.display()).into());
        }
        Ok(checked)
    }

    /// Runs `cargo build`. Returns whether it succeeds.
    pub(crate) fn build(&self) -> Result<bool, Failure> {
        Ok(self.cargo(&["build", "--quiet"]).status().map_err(|error| format!("cannot run cargo: {error}"))?.success())
    }

    /// The number of functions and of variables that are recorded, in what the compiler makes of the attributes.
    pub(crate) fn recorded(&self) -> Result<[usize; 2], Failure> {
        // `-Zunpretty` takes RUSTC_BOOTSTRAP. It is set for this package alone: build scripts of dependencies read it,
        // and all of them would be built again.
        let wrapper = self.directory.join("rustc");
        write(&wrapper, b"#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec \"$@\"\n")?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        let mut command = self.cargo(&["rustc", "--quiet", "--profile", "check"]);
        command.args(["--", "-Zunpretty=expanded"]).env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
        let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
        let expanded = String::from_utf8(output.stdout)?;
        Ok(["traced", "local"].map(|call| expanded.matches(&format!("::bitnet_trace::private::{call}(")).count()))
    }
}

impl Checked {
    fn add(&mut self, message: &Value, of_package: bool) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let file = message["spans"].as_array().and_then(|spans| spans.iter().find(|span| span["is_primary"] == true));
        let file = file.map(|span| text(&span["file_name"])).unwrap_or_default();
        // Summaries, such as `3 warnings emitted`, have no place.
        if file.is_empty() {
            return;
        }
        let kind = (text(&message["code"]["code"]), text(&message["message"]), file);
        let diagnostic = Diagnostic { kind, text: text(&message["rendered"]) };
        match message["level"].as_str() {
            Some("error") => self.errors.push(diagnostic),
            Some("warning") if of_package => self.warnings.push(diagnostic),
            _ => {}
        }
    }
}
