//! `#[traced(locals)]`: which bindings are recorded, under which names, and that nothing else about a body changes.

use bitnet_trace::{Trace, TraceSession, traced};
use candle_core::{Device, Result, Tensor};

fn tensor() -> Tensor {
    Tensor::new(&[3f32, -4.0], &Device::Cpu).expect("a tensor")
}

fn recorded<R>(run: impl FnOnce() -> R) -> (R, Trace) {
    let session = TraceSession::builder().in_memory().start().expect("a session");
    let value = session.in_scope(run);
    (value, session.finish().expect("nothing lost"))
}

fn names(trace: &Trace) -> Vec<&str> {
    trace.records().iter().map(|record| record.name.as_str()).collect()
}

fn names_of<R>(run: impl FnOnce() -> R) -> Vec<String> {
    names(&recorded(run).1).into_iter().map(str::to_owned).collect()
}

#[traced(stage = "attn", locals)]
#[allow(clippy::many_single_char_names)] // as papers name them
fn attention(x: &Tensor, scale: Option<f64>) -> Result<Tensor> {
    let (rows, _) = (x.dim(0)?, x.rank());
    let q = x.neg()?;
    let (k, v) = (x.abs()?, x.clone());
    let q = match scale {
        Some(scale) => {
            let q = (q * scale)?;
            q.contiguous()?
        }
        None => q,
    };
    let mut y;
    y = (&q + &k)?;
    if rows > 0 {
        y = (y + v)?;
    }
    let residual = &y;
    residual.sqr()
}

#[test]
fn every_binding_of_a_tensor_is_recorded_where_it_is_made() {
    let (y, trace) = recorded(|| attention(&tensor(), Some(2.0)));
    assert_eq!(
        names(&trace),
        [
            "attn.let.q",
            "attn.let.k",
            "attn.let.v",
            "attn.let.q.3",
            "attn.let.q.2",
            "attn.let.y",
            "attn.let.y.2",
            "attn.let.residual",
            "attn",
        ]
    );
    assert!(y.is_ok());
    let q = &trace.records()[0];
    assert_eq!((q.io.as_deref(), q.output.as_deref(), q.stage.as_deref()), (Some("let"), Some("q"), Some("attn")));
    // The line is that of the binding.
    let here = include_str!("locals.rs").lines().position(|line| line.contains("let q = x.neg()?;")).expect("a line");
    assert_eq!(q.site.as_deref(), Some(format!("tests/tests/locals.rs:{} attention", here + 1).as_str()));
}

#[test]
fn a_branch_that_is_not_taken_shifts_no_number() {
    let without = names_of(|| attention(&tensor(), None));
    let expected =
        ["attn.let.q", "attn.let.k", "attn.let.v", "attn.let.q.2", "attn.let.y", "attn.let.y.2", "attn.let.residual"];
    assert_eq!(without[..7], expected);
}

#[traced(stage = "attn", locals(q as "q_proj", q as _, q as "q_rope", att, pair as "pair"))]
fn named(x: &Tensor) -> Result<Tensor> {
    let q = x.neg()?;
    let q = q.abs()?;
    let q = (q * 2.0)?;
    let unnamed = q.clone();
    let att = unnamed.sqr()?;
    let att = (att + 1.0)?;
    let pair = (q, 3);
    att + pair.0
}

#[test]
fn a_list_picks_renames_and_skips() {
    let (_, trace) = recorded(|| named(&tensor()));
    assert_eq!(names(&trace), ["q_proj", "q_rope", "attn.let.att", "attn.let.att.2", "pair.0", "attn"]);
    let own = &trace.records()[0];
    assert_eq!((own.stage.as_deref(), own.io.as_deref(), own.output.as_deref()), (Some("q_proj"), None, None));
}

/// Code in which a type, a lifetime or a value is decided later than at its binding, or which a use would break.
#[traced(locals)]
#[allow(clippy::all, clippy::pedantic, unused)]
fn awkward<'a>(x: &'a Tensor, mut more: Vec<Tensor>) -> Result<Tensor> {
    let mut later = Vec::new();
    later.push(x);
    let mut none = None;
    if none.is_none() {
        none = Some(x.clone());
    }
    let parsed = "3".parse();
    let number: u8 = parsed.unwrap_or_default();
    let total = [1, 2].iter().sum::<i32>();
    let collected = more.iter().map(|x| x.neg()).collect::<Result<_>>();
    more = collected?;
    let default = Default::default();
    let _: &String = &default;
    let slice = &*Vec::from([1u8]);
    let text = String::from("x");
    let moved = text;
    let boxed: Box<dyn Fn(&Tensor) -> Tensor> = Box::new(|x| {
        let inner = x.clone();
        inner
    });
    let Some(first) = more.first_mut() else { return Ok(boxed(x)) };
    let reborrowed = &mut *first;
    *reborrowed = reborrowed.neg()?;
    let declared: Tensor;
    declared = x.clone();
    let _unused = declared.clone();
    let lengths = [[0u8; {
        let n = 3;
        n
    }]; 2];
    const COUNT: usize = {
        let n = 2;
        n
    };
    let constant = const {
        let n = 3;
        n
    };
    fn nested(x: &Tensor) -> Tensor {
        let not_ours = x.clone();
        not_ours
    }
    let mut state = None;
    let mut assign = |x: &Tensor| state = Some(x.clone());
    assign(x);
    match state {
        Some(kept) => none = Some(kept),
        None => return Ok(boxed(x)),
    }
    let r#type = nested(x);
    let pair @ (_, _) = (x, x);
    let (a, (b, _)) = (x.clone(), (1, 2));
    let (Some(opened), None) = (Some(x.clone()), None::<u8>) else { panic!("no") };
    #[cfg(any())]
    let absent = no_such_function();
    #[cfg(all())]
    let present = x.clone();
    let never = if COUNT == 2 { present } else { return Ok(boxed(x)) };
    Ok(never)
}

#[test]
fn nothing_that_compiles_without_it_stops_compiling() {
    let names = names_of(|| awkward(&tensor(), vec![tensor()]));
    let stripped: Vec<_> = names.iter().map(|name| name.strip_prefix("awkward.let.").unwrap_or(name)).collect();
    assert_eq!(
        stripped,
        [
            "none.2",
            "more.0",
            "reborrowed",
            "declared",
            "_unused",
            "state.2",
            "none.3",
            "type",
            "a",
            "present",
            "never",
            "awkward",
        ]
    );
}

#[traced(locals, when = scale > 1.0)]
fn sometimes(x: &Tensor, scale: f64) -> Result<Tensor> {
    let y = (x * scale)?;
    let run = |x: &Tensor| {
        let z = x.neg()?;
        Ok(z)
    };
    run(&y)
}

#[test]
fn a_condition_holds_for_the_locals_too() {
    assert_eq!(names_of(|| sometimes(&tensor(), 0.5)), [""; 0]);
    assert_eq!(names_of(|| sometimes(&tensor(), 2.0)), ["sometimes.let.y", "sometimes.let.z", "sometimes"]);
}

#[test]
fn a_value_is_recorded_as_it_was_at_its_binding() {
    #[traced(locals)]
    fn changed_later(x: &Tensor) -> Result<Tensor> {
        let cache = Tensor::zeros(2, candle_core::DType::F32, x.device())?;
        let clone = cache.clone();
        cache.slice_set(x, 0, 0)?;
        let after = clone.clone();
        Ok(after)
    }
    let (_, trace) = recorded(|| changed_later(&tensor()));
    let [cache, clone, after, _] = trace.records() else { panic!("{:?}", names(&trace)) };
    assert_eq!(cache.blake3, clone.blake3);
    assert_ne!(clone.blake3, after.blake3);
    assert_eq!((cache.rms, after.zero_count), (0.0, 0));
}

#[test]
fn a_filter_decides_by_the_kind_of_record() {
    let session = TraceSession::builder().in_memory().filter("io!=let").start().expect("a session");
    let _ = session.in_scope(|| attention(&tensor(), None));
    assert_eq!(names(&session.finish().expect("nothing lost")), ["attn"]);
}

/// Code that a closer look at a variable would break.
#[traced(stage = "odd", locals, when = n < 9)]
#[allow(clippy::all, clippy::pedantic, unused, unsafe_code)]
fn odd(x: &Tensor, n: usize) -> Result<Tensor> {
    #[allow(non_upper_case_globals)]
    static mut counter: u32 = 0;
    unsafe { counter = 1 };
    #[cfg_attr(all(), cfg(any()))]
    let absent = no_such_function();
    let thread = std::thread::spawn(|| {
        let inside = 3;
        inside
    });
    let y = match n {
        0 => {
            let never: u8 = return x.neg();
        }
        _ => x.abs()?,
    };
    Ok(y)
}

#[traced(locals, when = n > 1)]
fn boxed<'a>(x: &'a Tensor, n: usize) -> std::pin::Pin<Box<dyn Future<Output = Result<Tensor>> + 'a>> {
    Box::pin(async {
        let y = x.neg()?;
        y.abs()
    })
}

#[test]
fn a_condition_is_seen_wherever_the_code_runs() {
    assert_eq!(names_of(|| odd(&tensor(), 1)), ["odd.let.y", "odd"]);
    assert_eq!(names_of(|| odd(&tensor(), 0)), ["odd"]);
    assert_eq!(names_of(|| odd(&tensor(), 9)), [""; 0]);
    assert_eq!(names_of(|| bitnet_trace_tests::block_on(boxed(&tensor(), 2))), ["boxed.let.y", "boxed"]);
    assert_eq!(names_of(|| bitnet_trace_tests::block_on(boxed(&tensor(), 1))), [""; 0]);
}

#[traced(locals)]
#[allow(clippy::all, clippy::pedantic, unused)]
async fn not_send_before_it_waits(x: Tensor) -> Result<Tensor> {
    let shared = std::rc::Rc::new(1);
    drop(shared);
    let mut y = x.neg()?;
    std::future::ready(()).await;
    y = y.abs()?;
    let (mut a, _) = (y.clone(), 1);
    a = (a + 1.0)?;
    Ok(a)
}

#[test]
fn a_future_that_may_move_between_threads_still_may() {
    const fn is_send<T: Send>(_: &T) {}
    let future = not_send_before_it_waits(tensor());
    is_send(&future);
    let prefix = |name: &str| format!("not_send_before_it_waits.let.{name}");
    let expected: Vec<_> = ["y", "y.2", "a", "a.2"].map(prefix).into();
    assert_eq!(names_of(|| bitnet_trace_tests::block_on(future))[..4], expected);
}

macro_rules! made {
    ($name:ident, $body:block, $step:stmt) => {
        #[traced(locals)]
        #[allow(clippy::all, clippy::pedantic, unused)]
        fn $name(x: &Tensor) -> Result<Tensor> {
            $body
            $step
            let y = x.neg()?;
            Ok(y)
        }
    };
}

made!(
    made,
    {
        let q = tensor();
    },
    if true {
        let r = tensor();
    }
);

#[test]
fn a_body_that_a_macro_puts_together_is_read() {
    assert_eq!(names_of(|| made(&tensor())), ["made.let.q", "made.let.r", "made.let.y", "made"]);
}
