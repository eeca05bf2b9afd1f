//! Which functions are annotated: those that return tensors where `#[traced]` finds them.

use super::{attributes, init, passed_over};

fn function(output: &str) -> String {
    format!("fn f() -> {output} {{ todo!() }}\n")
}

#[test]
fn tensors_are_found_in_what_traced_looks_into() {
    for output in [
        "Tensor",
        "&Tensor",
        "&mut Tensor",
        "candle::Tensor",
        "Result<Tensor>",
        "candle_core::Result<candle_core::Tensor>",
        "Result<Tensor, Box<dyn std::error::Error>>",
        "anyhow::Result<(Tensor, Tensor)>",
        "Option<&Tensor>",
        "Vec<Tensor>",
        "Result<Vec<Option<(Tensor, Tensor)>>>",
        "&[Option<Tensor>]",
        "[Tensor; 3]",
        "(Tensor, usize, &str, Vec<usize>, Option<f32>, String, bool)",
        "(Tensor, Cow<'static, str>)",
        "(Tensor, (Tensor, usize))",
        "Box<Tensor>",
        "Rc<Arc<Tensor>>",
        "HashMap<String, Tensor>",
        "std::collections::BTreeMap<&'static str, Vec<Tensor>>",
        "Pin<Box<dyn Future<Output = Result<Tensor>> + Send + '_>>",
        "BoxFuture<'static, Result<Tensor>>",
    ] {
        assert_eq!(attributes(&function(output)), ["#[traced(locals)]"], "{output}");
    }
}

#[test]
fn other_types_hold_no_tensor() {
    for output in [
        "()",
        "Result<()>",
        "StreamTensor",
        "QTensor",
        "tensor::Id",
        "Tensor::Output",
        "Box<dyn Fn(&Tensor) -> Result<Tensor>>",
        "impl Fn(Tensor) -> Tensor",
        "fn(&Tensor) -> Tensor",
        "Option<fn(Tensor)>",
        "Result<usize, Tensor>",
        "(usize, String)",
        "!",
    ] {
        let annotated = init(&function(output));
        assert!(annotated.functions.is_empty() && annotated.passed_over.is_empty(), "{output}: {annotated:?}");
    }
    assert!(attributes("fn f() {}\nfn g(x: &Tensor) {}\n").is_empty());
}

#[test]
fn what_cannot_be_recorded_is_passed_over_with_the_reason() {
    let implements = "only if that type implements `Traced`; then annotate it by hand";
    for (source, reason) in [
        ("const fn f() -> Tensor { X }", "a `const fn` cannot record".to_owned()),
        ("#[track_caller] fn f() -> Tensor { X }", "`#[traced]` and `#[track_caller]` cannot be combined".to_owned()),
        ("fn f() -> impl Iterator<Item = Tensor> { x }", "`#[traced]` cannot see into `impl Trait`".to_owned()),
        ("fn f() -> Result<impl Iterator<Item = Tensor>> { x }", "`#[traced]` cannot see into `impl Trait`".to_owned()),
        (
            "fn f() -> Result<Vec<a::Bbox<\n  Tensor>>> { x }",
            format!("`#[traced]` records a `a::Bbox< Tensor>` {implements}"),
        ),
        (
            "fn f() -> Box<dyn Iterator<Item = Tensor>> { x }",
            format!("`#[traced]` records a `dyn Iterator<Item = Tensor>` {implements}"),
        ),
        (
            "fn f() -> HashMap<usize, Tensor> { x }",
            format!("`#[traced]` records a `HashMap<usize, Tensor>` {implements}"),
        ),
        (
            "fn f() -> MutexGuard<'_, Tensor> { x }",
            format!("`#[traced]` records a `MutexGuard<'_, Tensor>` {implements}"),
        ),
        (
            "fn f() -> Result<(Tensor, State)> { x }",
            "it also returns `State`, which `#[traced]` passes over only if that implements `Traced`".to_owned(),
        ),
        (
            "fn f() -> (Tensor, (usize, usize)) { x }",
            "it also returns `(usize, usize)`, which `#[traced]` passes over only if that implements `Traced`"
                .to_owned(),
        ),
        (
            "fn f() -> (Tensor, &usize) { x }",
            "it also returns `&usize`, which `#[traced]` passes over only if that implements `Traced`".to_owned(),
        ),
        (
            "fn f() -> (Tensor, Vec<Vec<usize>>) { x }",
            "it also returns `Vec<Vec<usize>>`, which `#[traced]` passes over only if that implements `Traced`"
                .to_owned(),
        ),
        (
            "fn f() -> (Tensor, Option<Vec<usize>>) { x }",
            "it also returns `Option<Vec<usize>>`, which `#[traced]` passes over only if that implements `Traced`"
                .to_owned(),
        ),
        (
            "fn f() -> (T, T, T, T, T, T, T, T, Tensor) { x }",
            format!("`#[traced]` records a `(T, T, T, T, T, T, T, T, Tensor)` {implements}"),
        ),
    ] {
        assert_eq!(passed_over(source), [format!("f (line 1): {reason}")], "{source}");
        assert_eq!(init(source).source, source);
    }
}

#[test]
fn functions_are_found_wherever_they_stand() {
    let source = "\
fn free() -> Tensor { x }
pub(crate) unsafe extern \"C\" fn far() -> Tensor { x }
async fn later() -> Tensor { x }
trait Model {
    fn declared(&self) -> Tensor;
    fn default(&self) -> Tensor { x }
}
impl Model for A {
    fn declared(&self) -> Tensor { x }
}
mod inner {
    pub fn nested() -> Tensor { x }
}
";
    let names: Vec<_> = init(source).functions.into_iter().map(|function| (function.name, function.line)).collect();
    let expected =
        [("free", 1), ("far", 2), ("later", 3), ("Model::default", 6), ("A::declared", 9), ("inner::nested", 12)];
    assert_eq!(names, expected.map(|(name, line)| (name.to_owned(), line)));
}

#[test]
fn tests_and_functions_inside_of_functions_are_left_alone() {
    let source = "\
#[cfg(test)]
mod tests {
    fn helper() -> Tensor { x }
}
#[cfg(all(test, feature = \"cuda\"))]
impl A {
    fn helper() -> Tensor { x }
}
#[test]
fn a_test() -> Result<Tensor> { x }
#[tokio::test]
async fn another() -> Result<Tensor> { x }
fn outer() {
    fn inner() -> Tensor { x }
}
macro_rules! make { () => { fn made() -> Tensor { x } } }
";
    let annotated = init(source);
    assert_eq!(annotated.source, source, "{annotated:?}");
    assert_eq!(attributes("#[cfg(not(test))] fn f() -> Tensor { x }"), ["#[traced(locals)]"]);
}
