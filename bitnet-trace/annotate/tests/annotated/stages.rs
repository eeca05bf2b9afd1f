//! The names of the stages.

use bitnet_trace_annotate::{Style, annotate};

use super::attributes;

#[test]
fn forward_has_the_name_of_its_type_and_every_other_function_its_own() {
    let source = "\
impl Module for MLP { fn forward(&self) -> Tensor { x } }
impl<T: Module> Block<'_, T> { fn forward(&self) -> Tensor { x } fn attn(&self) -> Tensor { x } }
impl<M: Module> Wrapper for M { fn forward(&self) -> Tensor { x } }
impl Wrapped for &mut some::ModelForCausalLM { fn forward(&self) -> Tensor { x } }
trait Attention { fn forward(&self) -> Tensor { x } }
fn forward() -> Tensor { x }
fn r#loop() -> Tensor { x }
";
    let expected = [
        "#[traced(stage = \"mlp\", locals)]",
        "#[traced(stage = \"block\", locals)]",
        "#[traced(locals)]",
        "#[traced(stage = \"wrapper\", locals)]",
        "#[traced(stage = \"model_for_causal_lm\", locals)]",
        "#[traced(stage = \"attention\", locals)]",
        "#[traced(locals)]",
        "#[traced(locals)]",
    ];
    assert_eq!(attributes(source), expected);
}

#[test]
fn a_stage_is_used_once_in_a_file() {
    let source = "\
impl SelfAttention { fn attn(&self) -> Tensor { x } }
impl CrossAttention { fn attn(&self) -> Tensor { x } }
impl Module for Norm { fn forward(&self) -> Tensor { x } }
impl Norm { fn forward(&self) -> Tensor { x } }
mod gpt { impl Norm { fn forward(&self) -> Tensor { x } } fn rope() -> Tensor { x } }
fn rope() -> Tensor { x }
mod bert { fn rope() -> Tensor { x } impl CrossAttention { fn attn(&self) -> Tensor { x } } }
fn norm() -> Tensor { x }
fn norm_forward() -> Tensor { x }
";
    let stages: Vec<_> = attributes(source)
        .iter()
        .map(|attribute| attribute.split('"').nth(1).unwrap_or("(its name)").to_owned())
        .collect();
    let expected = [
        "(its name)",
        "cross_attention_attn",
        "norm",
        "norm_forward",
        "gpt_norm",
        "(its name)",
        "rope_2",
        "bert_rope",
        "bert_cross_attention_attn",
        "norm_2",
        "norm_forward_2",
    ];
    assert_eq!(stages, expected);
}

#[test]
fn functions_of_which_cfg_chooses_one_share_a_stage() {
    let source = "\
#[cfg(feature = \"flash-attn\")]
fn flash_attn() -> Tensor { x }
#[cfg(not(feature = \"flash-attn\"))]
fn flash_attn() -> Tensor { x }
impl Mlp {
    #[cfg(unix)]
    fn forward(&self) -> Tensor { x }
    #[cfg(windows)]
    fn forward(&self) -> Tensor { x }
}
";
    let (free, method) = ("#[traced(locals)]", "#[traced(stage = \"mlp\", locals)]");
    assert_eq!(attributes(source), [free, free, method, method]);
}

#[test]
fn the_stages_of_annotated_functions_are_taken() {
    let source = "\
#[traced(layers(layer), stage = \"mlp\", locals(q as _))]
fn a() -> Tensor { x }
#[bitnet_trace::traced]
fn norm() -> Tensor { x }
#[cfg_attr(feature = \"trace\", traced(stage = \"hidden\"))]
fn b() -> Tensor { x }
impl Mlp { fn forward(&self) -> Tensor { x } }
impl Norm { fn forward(&self) -> Tensor { x } }
";
    assert_eq!(
        attributes(source),
        ["#[traced(stage = \"mlp_forward\", locals)]", "#[traced(stage = \"norm_forward\", locals)]"]
    );
}

#[test]
fn the_style_locals_writes_nothing_else() {
    let source = "\
impl Model {
    fn forward(&mut self, x: &Tensor, index_pos: usize) -> Tensor { for layer in self.layers.iter() { y } x }
}
mod inner { fn f() -> Tensor { x } }
";
    let annotated = annotate(source, Style::Locals).expect("Rust");
    let attributes: Vec<_> = annotated.functions.iter().map(|function| function.attribute.as_str()).collect();
    assert_eq!(attributes, ["#[traced(locals)]", "#[bitnet_trace::traced(locals)]"]);
}
