//! What the attribute writes, as a person would read it. Run in-process: outside the compiler
//! `proc_macro2` parses the text itself.

use proc_macro2::TokenStream;

use crate::expand::attribute;

fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the test's source has balanced delimiters")
}

/// The expansion, formatted; as it is where it is no complete Rust file (half-typed input).
fn expansion(args: &str, item: &str) -> String {
    let output = attribute(tokens(args), &tokens(item));
    match syn::parse2::<syn::File>(output.clone()) {
        Ok(file) if file.items.iter().all(|item| !matches!(item, syn::Item::Verbatim(_))) => {
            prettyplease::unparse(&file)
        }
        _ => output.to_string(),
    }
}

macro_rules! snapshot {
    ($name:ident, $args:literal, $item:literal) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(expansion($args, $item));
        }
    };
}

snapshot!(
    stage_alone,
    r#"stage = "attn_norm""#,
    "/// Normalises.\n #[inline] pub fn attn_norm(&self, x: &Tensor) -> Result<Tensor> { self.norm.forward(x) }"
);
snapshot!(bare_takes_the_function_name, "", "fn q_proj(x: &Tensor) -> Tensor { x.clone() }");
snapshot!(raw_identifier, "", "fn r#final(x: &Tensor) -> Tensor { x.clone() }");
snapshot!(
    layer_and_seq_open_a_scope,
    r#"stage = "block_out", layer = self.index, seq = step + 1"#,
    "fn forward(&mut self, mut x: Tensor, (a, b): (usize, usize)) -> Result<Tensor> { x = self.run(x, a, b)?; Ok(x) }"
);
snapshot!(
    generics_and_where_clause,
    r#"stage = "s""#,
    "pub(crate) unsafe fn f<'a, T: Module, const N: usize>(m: &'a T, x: [Tensor; N]) -> Option<&'a Tensor> where T: Sync { None }"
);
snapshot!(crate_path, "crate = my::bitnet_trace", "fn f() -> Tensor { t() }");
snapshot!(impl_trait_inside_the_return_type, "", "fn f() -> Result<impl Traced, Error> { Ok(t()) }");
snapshot!(inner_attributes_are_hoisted, "", "fn f() -> Tensor { #![allow(unused)] let y = t(); y }");
snapshot!(half_typed_body_survives, "", "fn f(x: &Tensor) -> Tensor { x. }");

snapshot!(async_function, "", "async fn f<'a>(x: &'a Tensor) -> Result<impl Traced, Error> { Ok(t()) }");
snapshot!(
    every_argument,
    r#"stage = "s", layer = 1, seq = 2, outputs("a", "b"), inputs(x, r#type), when = self.on, crate = my::trace"#,
    "fn f(&self, x: Tensor, r#type: Tensor) -> (Tensor, Tensor) { (x, r#type) }"
);

snapshot!(err_outputs_without_names, "outputs()", "fn f() -> Tensor { t() }");
snapshot!(err_outputs_that_are_no_strings, "outputs(q)", "fn f() -> Tensor { t() }");
snapshot!(err_inputs_without_parentheses, "inputs = x", "fn f() -> Tensor { t() }");
snapshot!(err_impl_trait_itself, "", "fn f() -> impl Future<Output = Tensor> { t() }");
snapshot!(err_unknown_key, r#"stgae = "x""#, "fn f() -> Tensor { t() }");
snapshot!(err_far_from_every_key, "colour = 3", "fn f() -> Tensor { t() }");
snapshot!(err_repeated_key, r#"stage = "a", stage = "b""#, "fn f() -> Tensor { t() }");
snapshot!(err_stage_is_not_a_string, "stage = 3", "fn f() -> Tensor { t() }");
snapshot!(err_empty_stage, r#"stage = """#, "fn f() -> Tensor { t() }");
snapshot!(err_half_typed_arguments, "stage =", "fn f() -> Tensor { t() }");
snapshot!(err_const_fn, "", "const fn f() -> Tensor { t() }");
snapshot!(err_track_caller, "", "#[track_caller] fn f() -> Tensor { t() }");
snapshot!(err_no_body, "", "fn f() -> Tensor;");
snapshot!(err_no_return_type, "", "fn f(x: &Tensor) { drop(x) }");
snapshot!(err_impl_block, "", "impl Attention { fn f() -> Tensor { t() } }");
snapshot!(err_struct, "", "pub struct Attention { x: Tensor }");
snapshot!(err_half_typed_signature, "", "fn f(x: &Tensor) ->");
