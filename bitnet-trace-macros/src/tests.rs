//! What the attribute generates, formatted for people. The tests run in-process: outside the compiler
//! `proc_macro2` parses the text itself.

use proc_macro2::{Group, TokenStream, TokenTree};

use crate::derive::derive;
use crate::expand::attribute;

fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the test's source has balanced delimiters")
}

/// The expansion, formatted; unformatted if it is not a complete Rust file (half-typed input).
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

snapshot!(
    async_function_returns_its_future,
    "",
    "#[inline] pub async fn f<'a>(&'a self, mut x: Tensor, y: &Tensor) -> Result<&'a Tensor> { self.run(x, y).await }"
);
snapshot!(
    async_function_with_settings,
    "layer = self.index, inputs(x)",
    "async unsafe fn f(self: Box<Self>, x: Tensor) -> Tensor { x }"
);
snapshot!(async_pattern_stays_async, "", "async fn f((a, b): (Tensor, Tensor)) -> Tensor { a }");
snapshot!(async_unnamed_self_stays_async, "", "async fn f(&self, x: &Tensor) -> Tensor { x.clone() }");
snapshot!(async_under_another_macro_stays_async, "", "#[instrument] async fn f(x: &Tensor) -> Tensor { x.clone() }");
snapshot!(
    async_function_with_an_opaque_type_inside,
    "",
    "async fn f<'a>(x: &'a Tensor) -> Result<impl Traced, Error> { Ok(t()) }"
);
snapshot!(
    every_argument,
    r#"stage = "s", layer = 1, seq = 2, outputs("a", "b"), inputs(x, r#type), when = self.on, crate = my::trace"#,
    "fn f(&self, x: Tensor, r#type: Tensor) -> (Tensor, Tensor) { (x, r#type) }"
);

snapshot!(
    locals_after_every_binding,
    r#"stage = "attn", locals"#,
    "fn f(&self, x: &Tensor) -> Result<Tensor> { let q = self.wq.forward(x)?; let (k, v): (Tensor, Tensor) = self.kv(x)?;
     let mut y; if x.rank() > 1 { y = q.matmul(&k)?; } else { y = q }
     match self.mask(|m| n = m) { Some(mask) => y = mask, None => {} } let q = y.neg()?; q.matmul(&v) }"
);
snapshot!(
    locals_of_a_list,
    r#"stage = "attn", locals(q as "q_proj", q as _, q as "q_rope", att)"#,
    "fn f(x: &Tensor) -> Result<Tensor> { let q = a(x)?; let q = b(q)?; let q = c(q)?; let att = d(q)?; let att = e(att)?; Ok(att) }"
);
snapshot!(
    locals_under_a_condition,
    "locals, when = self.debug, crate = my::trace",
    "fn f(&self, x: &Tensor) -> Tensor { let y = self.g(x); #[cfg(test)] let z = y.clone(); y }"
);
snapshot!(
    locals_pass_over_what_cannot_record,
    "locals",
    "fn f(x: &Tensor) -> Tensor { let y; fn g() { let a = 1; } const N: usize = { let b = 2; b }; let c @ _ = x; if let Some(d) = x.e() {}
     let Some(h) = x.h() else { return z() }; let (None, i) = x.i() else { return z() }; [0; { let j = 1; j }]; STATIC = 3; *y = x; y.k = x; json!({ let l = 1; }); y }"
);
snapshot!(
    locals_of_an_async_function,
    "locals, layer = 3",
    "async fn f(x: &Tensor) -> Tensor { let y = g(x).await; y }"
);
snapshot!(
    layers_of_a_loop,
    "layers(layer)",
    "fn f(&self, x: &Tensor) -> Tensor { 'outer: for (index, (layer, _)) in self.layers.iter().enumerate() { for x in 0..2 { continue 'outer; } } x.clone() }"
);
snapshot!(half_typed_body_with_locals_survives, "locals", "fn f(x: &Tensor) -> Tensor { let y = x. }");
snapshot!(err_locals_without_such_a_binding, "locals(nope)", "fn f(x: &Tensor) -> Tensor { let y = x.clone(); y }");
snapshot!(
    err_locals_named_too_often,
    r#"locals(y as "a", y as "b")"#,
    "fn f(x: &Tensor) -> Tensor { let y = x.clone(); y }"
);
snapshot!(err_locals_that_are_not_names, "locals(\"q\")", "fn f() -> Tensor { t() }");
snapshot!(err_locals_as_nothing, "locals(q as)", "fn f() -> Tensor { t() }");
snapshot!(err_locals_are_empty, "locals()", "fn f() -> Tensor { t() }");
snapshot!(err_layers_without_a_loop, "layers(layer)", "fn f() -> Tensor { while let Some(layer) = g() {} t() }");
snapshot!(err_layers_without_a_name, "layers", "fn f() -> Tensor { t() }");
snapshot!(err_layers_with_two_names, "layers(a, b)", "fn f() -> Tensor { t() }");

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

/// Every beginning of a text, cut between its tokens, with the brackets that are open closed.
fn beginnings(source: &str) -> Vec<TokenStream> {
    fn cut(stream: TokenStream) -> Vec<Vec<TokenTree>> {
        let mut whole: Vec<TokenTree> = Vec::new();
        let mut found = vec![Vec::new()];
        for token in stream {
            if let TokenTree::Group(group) = &token {
                for inside in cut(group.stream()) {
                    let part = Group::new(group.delimiter(), inside.into_iter().collect());
                    found.push(whole.iter().cloned().chain([part.into()]).collect());
                }
            }
            whole.push(token);
            found.push(whole.clone());
        }
        found
    }
    cut(tokens(source)).into_iter().map(|tokens| tokens.into_iter().collect()).collect()
}

#[test]
fn half_typed_input_never_panics_and_the_item_survives() {
    let arguments = [
        r#"stage = "s", layer = self.index + 1, seq = Some(2), outputs("a", "b"), inputs(x, y), when = a && b"#,
        "crate = my::trace, stage",
    ];
    let items = [
        "/// Doc.
        #[inline] pub(crate) async unsafe fn f<'a, T: Fn(u8) -> u8, const N: usize>(&self, mut x: &'a Tensor, (a, b): (T, [u8; N]))
            -> Result<(Tensor, impl Traced), Box<dyn Error>> where T: Send { #![allow(unused)] let y = |x| x?; y }",
        "impl X { fn f() -> Tensor { t() } }",
        "pub struct S<T> { x: T }",
    ];
    let mut seen = 0;
    for arguments in arguments.into_iter().flat_map(beginnings) {
        for item in items.into_iter().flat_map(beginnings) {
            let output = attribute(arguments.clone(), &item);
            // Either the expansion, whose function has its name, or the error and then the item.
            let (text, item) = (output.to_string(), item.to_string());
            let survives = text.contains("private ::") || text.contains("compile_error") && text.ends_with(&item);
            assert!(survives, "#[traced({arguments})] {item}\n{text}");
            seen += 1;
        }
    }
    assert!(seen > 5_000, "{seen}");
}

#[test]
fn a_half_typed_type_never_panics() {
    let item = r#"#[traced(crate = my::trace)] pub struct Heads<'a, T: Clone = Tensor, const N: usize = 3> where T: Send {
        #[traced(label = "keys")] k: &'a T, #[traced(skip)] n: [u8; N], v: Option<T::Cache> }"#;
    let whole = derive(tokens(item)).to_string();
    assert!(whole.contains("impl") && !whole.contains("compile_error"), "{whole}");
    for item in
        beginnings(item).into_iter().chain(beginnings("enum E { A(Tensor), #[traced(label = \"b\")] B { x: u8 } }"))
    {
        let output = derive(item.clone()).to_string();
        assert!(output.contains("impl") || output.contains("compile_error"), "{item}\n{output}");
    }
}

fn derived(item: &str) -> String {
    let output = derive(tokens(item));
    prettyplease::unparse(&syn::parse2(output).expect("a Rust file"))
}

macro_rules! derived {
    ($name:ident, $item:literal) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(derived($item));
        }
    };
}

derived!(
    derive_struct,
    "struct Heads<'a, T: Clone = Tensor> where T: Send { q: Tensor, #[traced(label = \"key\")] k: &'a T, #[traced(skip)] n: usize }"
);
derived!(
    derive_enum,
    "enum Mask<T> { None, #[traced(label = \"c\")] Causal(Tensor, usize), Other { r#type: T }, #[traced(skip)] Left(u8) }"
);
derived!(derive_tuple_struct, "#[traced(crate = my::trace)] struct Pair<T: Model>(Tensor, T::Cache);");
derived!(derive_unit, "struct Nothing;");
derived!(derive_err_keeps_the_bound, "struct S<T> { #[traced(skpi)] x: T }");

snapshot!(err_constant, "", "const X: usize = 3;");
snapshot!(err_text_alone, r#""attn_norm""#, "fn f() -> Tensor { t() }");
snapshot!(mut_argument_moves, "", "fn f(mut x: Tensor, names: Vec<String>) -> Tensor { x = x.neg(); x }");
snapshot!(mut_reference_returned_moves, "", "fn f<'a>(&'a mut self) -> Option<&'a mut Tensor> { self.x.as_mut() }");
snapshot!(
    body_from_a_macro_and_lifetimes,
    "stage = \"s\"",
    "fn f<'a, 'b: 'a>(x: &'a Tensor, y: &'b Tensor) -> (&'a Tensor, Cow<'b, Tensor>, Box<dyn for<'c> Fn(&'c u8) + 'static>) { (x, y) }"
);
