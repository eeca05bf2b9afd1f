//! The names of the stages, and the attributes that are written.

use std::collections::{HashMap, HashSet};

use heck::ToSnakeCase;
use syn::ext::IdentExt;

use crate::Style;
use crate::blocks::Passes;
use crate::functions::Candidate;

/// What is written in the attribute of a function: its arguments, and what a person should look at.
pub(crate) struct Arguments {
    pub(crate) arguments: String,
    pub(crate) note: Option<String>,
}

/// The attributes of the functions, in their order. `taken` holds the stages of those that have one already.
pub(crate) fn attributes(functions: &[Candidate<'_>], taken: &HashSet<String>, style: Style) -> Vec<Arguments> {
    let mut stages = Stages { taken: taken.clone(), of: HashMap::new() };
    functions
        .iter()
        .map(|function| match style {
            Style::Locals => Arguments { arguments: "locals".to_owned(), note: None },
            Style::Init => {
                let mut arguments = Vec::new();
                let stage = stages.name(function);
                if function.sig.ident.unraw() != stage {
                    arguments.push(format!("stage = {stage:?}"));
                }
                let Passes { seq, block, note } = &function.passes;
                arguments.extend(seq.as_ref().map(|seq| format!("seq = {seq}")));
                arguments.extend(block.as_ref().map(|block| format!("layers({block})")));
                arguments.push("locals".to_owned());
                Arguments { arguments: arguments.join(", "), note: note.clone() }
            }
        })
        .collect()
}

struct Stages {
    taken: HashSet<String>,
    /// The stages of the functions so far. Those of one identity are alternatives, and share theirs.
    of: HashMap<(Vec<String>, String, String), String>,
}

impl Stages {
    fn name(&mut self, function: &Candidate<'_>) -> String {
        let identity = function.scope.identity(&function.sig.ident);
        if let Some(stage) = self.of.get(&identity) {
            return stage.clone();
        }
        let name = function.sig.ident.unraw().to_string();
        let owner = function.scope.owner.as_deref().map(snake_case);
        let natural = match &owner {
            Some(owner) if name == "forward" => owner.clone(),
            _ => name.clone(),
        };
        let of_owner = owner.map(|owner| format!("{owner}_{name}"));
        let of_module = function.scope.modules.last().map(|module| {
            let within = of_owner.as_ref().filter(|_| name != "forward").unwrap_or(&natural);
            format!("{module}_{within}")
        });
        let last = of_owner.as_ref().or(of_module.as_ref()).unwrap_or(&natural).clone();
        // Two types of one name stand in different modules.
        let longer = if name == "forward" { [of_module, of_owner] } else { [of_owner, of_module] };
        let numbered = (2..).map(|number| format!("{last}_{number}"));
        let stages = [natural].into_iter().chain(longer.into_iter().flatten()).chain(numbered);
        let stage = stages.into_iter().find(|stage| !self.taken.contains(stage));
        let stage = stage.unwrap_or(name);
        self.taken.insert(stage.clone());
        self.of.insert(identity, stage.clone());
        stage
    }
}

/// `MLP` is `mlp`, `ModelForCausalLM` is `model_for_causal_lm`.
fn snake_case(name: &str) -> String {
    // `Conv2D` is read as the field writes it, `conv2d`, and not as `conv2_d`.
    let name = ["1D", "2D", "3D"].into_iter().fold(name.to_owned(), |name, d| name.replace(d, &d.to_lowercase()));
    name.to_snake_case()
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn types_are_written_as_the_field_writes_them() {
        for (name, expected) in [
            ("Mlp", "mlp"),
            ("MLP", "mlp"),
            ("DecoderLayer", "decoder_layer"),
            ("CausalSelfAttention", "causal_self_attention"),
            ("ModelForCausalLM", "model_for_causal_lm"),
            ("RMSNorm", "rms_norm"),
            ("T5Block", "t5_block"),
            ("Conv2D", "conv2d"),
            ("ResnetBlock2D", "resnet_block2d"),
            ("UNet2DConditionModel", "u_net2d_condition_model"),
        ] {
            assert_eq!(snake_case(name), expected, "{name}");
        }
    }
}
