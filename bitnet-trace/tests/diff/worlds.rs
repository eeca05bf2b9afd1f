//! Traces of programs that name, number and shape their records in their own ways.

use bitnet_trace::compare::{Adaptation, Comparison, Conclusion, Verdict, Where};
use bitnet_trace::report::Html;
use bitnet_trace::{Trace, TraceContext, tap};
use candle_core::{Device, Tensor};

use crate::{Directory, compare, noise, paths, tensor, trace};

/// A record of which only names, numbers and shape matter; its digest says what it holds.
fn line(name: &str, shape: &[usize], holds: u8, more: &str) -> String {
    let elements: usize = shape.iter().product();
    format!(
        r#"{{"name":"{name}","shape":{shape:?},"dtype":"F32","num_elements":{elements},"rms":1.0,"blake3":"{}"{more}}}"#,
        format!("{holds:02x}").repeat(32)
    )
}

fn of_lines(reference: &[String], trace: &[String]) -> Comparison {
    let directory = Directory::new(&[("a.jsonl", &reference.join("\n")), ("b.jsonl", &trace.join("\n"))]);
    paths(&directory.path("a.jsonl"), &directory.path("b.jsonl")).expect("readable")
}

/// Pairs of each adaptation.
fn adapted(comparison: &Comparison) -> Vec<(Adaptation, usize)> {
    comparison.adaptations.iter().map(|adapted| (adapted.adaptation, adapted.pairs)).collect()
}

const LAYERS: usize = 30;

/// The nodes of llama.cpp's graph for a Llama of 30 layers have their layers in their names, and no
/// step; ours have both, but for the logits, which are made outside the scope of the step.
#[test]
fn layers_in_names_and_one_record_without_a_step() {
    let mut theirs = vec![line("embd", &[5, 64], 1, "")];
    let mut ours = vec![line("t0/embd", &[1, 5, 64], 1, r#","seq":0,"stage":"embd""#)];
    for layer in 0..LAYERS {
        for (number, stage) in ["attn_norm", "ffn_inp", "ffn_norm", "ffn_out", "l_out"].into_iter().enumerate() {
            let holds = u8::try_from(number + 2).expect("few");
            theirs.push(line(&format!("{stage}-{layer}"), &[5, 64], holds, ""));
            let name = format!("t0/blk{layer}/{stage}");
            let fields = format!(r#","seq":0,"layer":{layer},"stage":"{stage}""#);
            ours.push(line(&name, &[1, 5, 64], holds, &fields));
        }
    }
    theirs.push(line("result_norm", &[5, 64], 7, ""));
    theirs.push(line("result_output", &[5, 99], 8, ""));
    ours.push(line("t0/result_norm", &[1, 5, 64], 7, r#","seq":0,"stage":"result_norm""#));
    ours.push(line("result_output", &[1, 5, 99], 8, r#","stage":"result_output""#));
    let comparison = of_lines(&theirs, &ours);
    assert!(comparison.matches(), "{comparison}");
    assert_eq!(comparison.compared(), 3 + 5 * LAYERS);
    let expected = [(Adaptation::LayerFromName, 5 * LAYERS), (Adaptation::StepsInOrder, 2 + 5 * LAYERS)];
    assert_eq!(adapted(&comparison), expected);
    let screen = comparison.to_string();
    assert!(screen.contains("150 pairs: the trailing number of a name was taken for its layer"), "{screen}");
}

/// Two implementations never have the same stages: that is no divergence, and one line a stage.
#[test]
fn stages_of_one_side_are_coverage_and_not_the_headline() {
    let side = |stages: &[(&str, u8)]| -> Vec<String> {
        let layers = (0..LAYERS).flat_map(|layer| {
            let lines =
                stages.iter().map(move |(stage, holds)| line(&format!("{stage}-{layer}"), &[5, 64], *holds, ""));
            lines.collect::<Vec<_>>()
        });
        layers.collect()
    };
    let reference = side(&[("attn_norm", 1), ("ffn_out", 2), ("l_out", 3)]);
    let same = of_lines(&reference, &side(&[("attn_norm", 1), ("l_out", 3)]));
    assert_eq!((same.first, same.conclusion()), (None, Conclusion::Missing), "{same}");
    let [group] = &same.coverage[..] else { panic!("{same}") };
    assert_eq!(group.to_string(), "ffn_out: 30 layers, reference only");
    assert_eq!((group.side, group.records, group.layers.len()), (Where::Reference, LAYERS, LAYERS));
    let screen = same.to_string();
    for expected in ["no divergence in 60 pairs, but 30 records have no partner", "ffn_out  reference only  30 layers"]
    {
        assert!(screen.contains(expected), "{expected}\n{screen}");
    }
    // The report has the same.
    let page = Html::new(&same).to_string();
    for expected in [
        r#""conclusion":"missing""#,
        r#""onlyCommon":false"#,
        r#""coverage":[{"layers":"30 layers","note":null,"records":30,"side":"reference","stage":"ffn_out"}]"#,
        r#""adaptations":[]"#,
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    // The headline is where two records differ, though a record without a partner comes before it.
    let differs = of_lines(&reference, &side(&[("attn_norm", 1), ("l_out", 4)]));
    assert_eq!(differs.first_divergence().expect("one").key.to_string(), "blk0/l_out", "{differs}");
    assert!(std::panic::catch_unwind(|| same.assert_match()).is_err());
}

#[test]
fn a_stage_under_another_name_is_offered_with_its_rule() {
    let side = |name: &str, holds: u8| -> Vec<String> {
        let layers = (0..4).flat_map(|layer| {
            [
                line(&format!("attn_norm-{layer}"), &[5, 64], 1, ""),
                line(&format!("{name}-{layer}"), &[5, 32], holds, ""),
            ]
        });
        layers.collect()
    };
    let comparison = of_lines(&side("ffn_out", 2), &side("down_proj", 2));
    let [suggestion] = &comparison.suggestions[..] else { panic!("{comparison}") };
    assert_eq!((suggestion.records, suggestion.identical), (4, 4));
    let screen = comparison.to_string();
    assert!(screen.contains("probably the same: ffn_out of the reference and down_proj of the trace"), "{screen}");
    // The rule does what it says.
    let directory =
        Directory::new(&[("a.jsonl", &side("ffn_out", 2).join("\n")), ("b.jsonl", &side("down_proj", 2).join("\n"))]);
    let options = bitnet_trace::compare::DiffOptions::default().with_map(suggestion.rule.parse().expect("a map"));
    let mapped = bitnet_trace::compare::diff_paths(
        directory.path("a.jsonl"),
        directory.path("b.jsonl"),
        &options,
        &mut |_, _| (),
    );
    let mapped = mapped.expect("readable");
    assert!(mapped.matches() && mapped.compared() == 8, "{mapped}");
    // Two that fit are none; nor is one that has a partner elsewhere.
    let two = |a: &str, b: &str| vec![line("x", &[2], 1, ""), line(a, &[5], 2, ""), line(b, &[5], 2, "")];
    assert_eq!(of_lines(&two("a", "b"), &two("c", "d")).suggestions, []);
    let elsewhere = of_lines(
        &[line("a", &[5], 2, ""), line("x", &[2], 1, ""), line("b", &[5], 2, "")],
        &[line("a", &[5], 2, ""), line("x", &[2], 1, ""), line("a", &[5], 2, "")],
    );
    assert_eq!(elsewhere.suggestions, [], "{elsewhere}");
}

#[test]
fn an_exact_match_wins_and_two_candidates_are_none() {
    // `x-1` is a name of both sides, and not layer 1 of `x`.
    let exact = of_lines(
        &[line("x-1", &[4], 1, "")],
        &[line("x-1", &[4], 1, ""), line("blk1/x", &[4], 2, r#","layer":1,"stage":"x""#)],
    );
    let verdicts: Vec<_> = exact.pairs.iter().map(|pair| (pair.key.to_string(), pair.verdict)).collect();
    let expected = [("x-1".to_owned(), Verdict::Identical), ("blk1/x".to_owned(), Verdict::OnlyTrace)];
    assert_eq!(verdicts, expected);
    // Steps 1 to 3 are there on both sides; 0 and 4 are not the same step.
    let steps = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|seq| line(&format!("t{seq}/x"), &[4], u8::try_from(seq).expect("few"), "")).collect()
    };
    let shifted = of_lines(&steps(0..4), &steps(1..5));
    assert_eq!((shifted.compared(), shifted.count(Verdict::Identical)), (3, 3), "{shifted}");
    assert_eq!(shifted.adaptations, []);
    // Steps counted by position: the n-th is the n-th.
    let renumbered = |seqs: [usize; 3]| -> Vec<String> {
        let lines = seqs.into_iter().zip(1..).map(|(seq, holds)| line(&format!("t{seq}/x"), &[4], holds, ""));
        lines.collect()
    };
    let counted = of_lines(&renumbered([0, 1, 2]), &renumbered([0, 5, 6]));
    assert!(counted.matches() && counted.compared() == 3, "{counted}");
    assert_eq!(adapted(&counted), [(Adaptation::StepsInOrder, 2)]);
    // A step that both have under one number contradicts the order.
    let ambiguous = of_lines(&renumbered([0, 1, 2]), &renumbered([0, 2, 3]));
    assert_eq!((ambiguous.compared(), ambiguous.adaptations.len()), (2, 0), "{ambiguous}");
}

/// A prompt of five tokens, then one token in each step: one side counts its steps, the other numbers them by the
/// position of their first token. Both have a step 5, which is not the same one.
#[test]
fn steps_numbered_by_their_positions_are_compared_with_steps_that_are_counted() {
    let lines = |steps: usize, number: &dyn Fn(usize) -> usize| -> Vec<String> {
        let of = |step: usize| {
            let (tokens, known) = if step == 0 { (5, 5) } else { (1, 5 + step) };
            let holds = u8::try_from(step).expect("few");
            let fields = |stage: &str| format!(r#","seq":{},"layer":0,"stage":"{stage}""#, number(step));
            let name = |stage: &str| format!("t{}/blk0/{stage}", number(step));
            let (scores, x) = (name("scores"), name("x"));
            // The last one is made outside the scope of the step.
            [
                line(&x, &[1, tokens, 4], holds, &fields("x")),
                line(&scores, &[1, 2, tokens, known], holds + 50, &fields("scores")),
                line("logits", &[9], holds + 100, ""),
            ]
        };
        (0..steps).flat_map(of).collect()
    };
    let counted = |steps| lines(steps, &|step| step);
    let by_position = |steps| lines(steps, &|step| if step == 0 { 0 } else { step + 4 });
    for (reference, trace) in
        [(counted(9), by_position(9)), (by_position(9), counted(9)), (by_position(9), by_position(9))]
    {
        let comparison = of_lines(&reference, &trace);
        assert!(comparison.matches() && comparison.count(Verdict::Identical) == 27, "{comparison}");
    }
    assert_eq!(adapted(&of_lines(&counted(9), &by_position(9))), [(Adaptation::StepsInOrder, 16)]);
    // One of them ran for longer.
    for (reference, trace) in [(counted(9), by_position(7)), (counted(7), by_position(9))] {
        let comparison = of_lines(&reference, &trace);
        assert_eq!((comparison.compared(), comparison.count(Verdict::Identical)), (21, 21), "{comparison}");
    }
    // One of them lacks the prefill.
    let in_steps = |lines: Vec<String>| -> Vec<String> { lines.into_iter().filter(|it| it.contains("seq")).collect() };
    let (whole, part) = (in_steps(by_position(9)), in_steps(counted(9)).split_off(2));
    for (reference, trace) in [(&whole, &part), (&part, &whole)] {
        let comparison = of_lines(reference, trace);
        assert_eq!((comparison.compared(), comparison.count(Verdict::Identical)), (16, 16), "{comparison}");
    }
    // Every fifth step of a run whose tensors happen to have five rows.
    let chosen = |number: usize| -> Vec<String> {
        let steps = (0..3u8).map(|step| line(&format!("t{}/x", usize::from(step) * number), &[5, 4], step, ""));
        steps.collect()
    };
    let comparison = of_lines(&lines(9, &|step| step), &chosen(5));
    assert_eq!(comparison.adaptations, [], "{comparison}");
}

/// Prompts of different lengths, each a request: one side numbers the steps of each by positions, the other counts them.
#[test]
fn steps_by_position_are_counted_within_each_request() {
    let lines = |number: &dyn Fn(usize, usize) -> usize| -> Vec<String> {
        let of = |request: usize, step: usize| {
            let prompt = request + 2;
            let tokens = if step == 0 { prompt } else { 1 };
            let (seq, holds) = (number(prompt, step), u8::try_from(request * 10 + step).expect("few"));
            let fields = format!(r#","seq":{seq},"request":{request},"layer":0,"stage":"x""#);
            line(&format!("t{seq}/blk0/x"), &[1, tokens, 4], holds, &fields)
        };
        (0..2).flat_map(|request| (0..4).map(move |step| (request, step))).map(|(r, s)| of(r, s)).collect()
    };
    let counted = lines(&|_, step| step);
    let by_position = lines(&|prompt, step| if step == 0 { 0 } else { prompt + step - 1 });
    for (reference, trace) in [(&counted, &by_position), (&by_position, &counted)] {
        let comparison = of_lines(reference, trace);
        assert!(comparison.matches() && comparison.count(Verdict::Identical) == 8, "{comparison}");
    }
}

/// One side numbers its steps, the other ran for longer and numbers nothing.
#[test]
fn a_run_that_went_on_is_compared_as_far_as_both_went() {
    let unnumbered: Vec<String> = (0..4).map(|holds| line("x", &[4], holds, "")).collect();
    let numbered = |first: usize| -> Vec<String> {
        (first..first + 2).map(|seq| line(&format!("t{seq}/x"), &[4], u8::try_from(seq).expect("few"), "")).collect()
    };
    let both = of_lines(&unnumbered, &numbered(0));
    assert_eq!((both.compared(), both.count(Verdict::Identical)), (2, 2), "{both}");
    // Every shape fits every step, but both begin at the beginning.
    let other_shape: Vec<String> = (0..4).map(|holds| line("x", &[5], holds, "")).collect();
    assert_eq!(of_lines(&other_shape, &numbered(0)).compared(), 0);
}

fn rows(tokens: usize, width: usize) -> Vec<Vec<f32>> {
    (0..tokens).map(|token| noise(u32::try_from(token).expect("few") + 1, width)).collect()
}

fn stacked(rows: &[Vec<f32>]) -> Tensor {
    Tensor::new(rows.to_vec(), &Device::Cpu).and_then(|rows| rows.unsqueeze(0)).expect("a tensor")
}

#[test]
fn the_last_token_is_compared_with_the_last_row() {
    let all = rows(5, 16);
    let whole = |capture: &str| trace(capture, || tap("logits", &stacked(&all)));
    let last = |capture: &str, by: f32| {
        let row: Vec<f32> = all[4].iter().map(|value| value + by).collect();
        trace(capture, || tap("logits", &tensor(&row).reshape((1, 16)).expect("a row")))
    };
    for (reference, other) in [(whole("values"), last("values", 0.0)), (last("values", 0.0), whole("values"))] {
        let comparison = compare(&reference, &other);
        assert!(comparison.matches(), "{comparison}");
        assert_eq!(adapted(&comparison), [(Adaptation::LastRow, 1)]);
    }
    let differs = compare(&whole("values"), &last("values", 0.5));
    assert_eq!(differs.first_divergence().expect("one").verdict, Verdict::Diverged, "{differs}");
    // The digests of the rows tell as well, with 64 bits.
    let by_rows = compare(&whole("rows"), &last("none", 0.0));
    assert_eq!(by_rows.pairs[0].verdict, Verdict::Within, "{by_rows}");
    assert_eq!(compare(&whole("rows"), &last("none", 0.5)).pairs[0].verdict, Verdict::Diverged);
    // Sketches of other elements tell nothing: the two are not compared, and nothing is said of them.
    let neither = compare(&whole("sketch"), &last("sketch", 0.0));
    assert_eq!((neither.compared(), neither.conclusion()), (0, Conclusion::NothingCompared), "{neither}");
    assert!(neither.to_string().contains("BITNET_TRACE_CAPTURE=values"), "{neither}");
}

/// As many heads as tokens: the sizes alone do not tell which dimension is which.
#[test]
fn heads_are_not_taken_for_tokens() {
    let (tokens, heads, width) = (4, 4, 8);
    let flat = rows(tokens, heads * width);
    let prefill = trace("values", || {
        let _step = TraceContext::seq(0).with_tokens(0..tokens).enter();
        tap("q", &stacked(&flat).reshape((1, tokens, heads, width)).expect("heads"));
        let turned = stacked(&flat).reshape((1, tokens, heads, width)).and_then(|x| x.transpose(1, 2)?.contiguous());
        tap("q_rope", &turned.expect("heads first"));
    });
    let decode = trace("values", || {
        for (step, row) in flat.iter().enumerate() {
            let _step = TraceContext::seq(step).with_tokens(step..step + 1).enter();
            tap("q", &tensor(row).reshape((1, 1, heads, width)).expect("heads"));
            tap("q_rope", &tensor(row).reshape((1, heads, 1, width)).expect("heads first"));
        }
    });
    for (reference, other) in [(&prefill, &decode), (&decode, &prefill)] {
        let comparison = compare(reference, other);
        assert!(comparison.matches() && comparison.by_token, "{comparison}");
        assert_eq!(comparison.compared(), 2 * tokens);
    }
    // Without the dimension of the one token there is no telling, and nothing is compared.
    let squeezed = trace("values", || {
        for (step, row) in flat.iter().enumerate() {
            let _step = TraceContext::seq(step).with_tokens(step..step + 1).enter();
            tap("q", &tensor(row).reshape((heads, width)).expect("heads"));
        }
    });
    let unclear = compare(&prefill, &squeezed);
    assert!(unclear.first_divergence().is_none() && !unclear.matches(), "{unclear}");
    assert!(unclear.problems.iter().any(|problem| problem.contains("stage q ")), "{:?}", unclear.problems);
}

#[test]
fn chunks_of_the_same_positions_are_compared_token_by_token() {
    let all = rows(12, 16);
    let chunked = |sizes: &[usize], fault: usize| -> Trace {
        trace("values", || {
            let mut at = 0;
            for (step, size) in sizes.iter().enumerate() {
                let _step = TraceContext::seq(step).with_tokens(at..at + size).enter();
                let mut chunk = all[at..at + size].to_vec();
                if (at..at + size).contains(&fault) {
                    chunk[fault - at][0] += 1.0;
                }
                tap("proj", &stacked(&chunk));
                at += size;
            }
        })
    };
    let reference = chunked(&[8, 1, 1, 1, 1], 99);
    for sizes in [&[4, 4, 1, 1, 1, 1][..], &[3, 5, 4], &[12], &[1; 12], &[6, 2, 1, 1, 1, 1]] {
        let comparison = compare(&reference, &chunked(sizes, 99));
        assert!(comparison.matches() && comparison.by_token, "{sizes:?}\n{comparison}");
        assert_eq!(comparison.compared(), 12, "{sizes:?}");
        let faulty = compare(&reference, &chunked(sizes, 5));
        assert_eq!(faulty.first_divergence().expect("one").key.to_string(), "token 5: proj", "{sizes:?}\n{faulty}");
        assert_eq!(faulty.count(Verdict::Diverged), 1, "{faulty}");
    }
    // What only one side went on to is without a partner.
    let shorter = compare(&reference, &chunked(&[4, 4, 1], 99));
    assert_eq!((shorter.compared(), shorter.count(Verdict::OnlyReference)), (9, 3), "{shorter}");
}

/// Without values no row can be taken out: that is said, and takes no memory for rows that a record claims.
#[test]
fn tokens_without_values_are_a_hint() {
    let claimed = 1 << 22;
    let line = |tokens: [usize; 2]| {
        let count = tokens[1] - tokens[0];
        line("x", &[count], 1, &format!(r#","tokens":[{},{}],"order":{}"#, tokens[0], tokens[1], tokens[0]))
    };
    let comparison = of_lines(&[line([0, claimed])], &[line([0, claimed / 2]), line([claimed / 2, claimed])]);
    assert_eq!((comparison.pairs.len(), comparison.conclusion()), (3, Conclusion::NothingCompared), "{comparison}");
    assert!(
        comparison.to_string().contains("hint       1 records of the reference hold several tokens"),
        "{comparison}"
    );
}

/// Steps of one number that computed other positions are no partners, whether or not they can be taken apart.
#[test]
fn chunks_without_values_are_not_compared_by_their_steps() {
    let line = |seq: usize, tokens: [usize; 2]| {
        let count = tokens[1] - tokens[0];
        let more = format!(r#","seq":{seq},"stage":"x","tokens":[{},{}],"order":{seq}"#, tokens[0], tokens[1]);
        line(&format!("t{seq}/x"), &[count, 16], u8::try_from(count).expect("few"), &more)
    };
    let comparison =
        of_lines(&[line(0, [0, 8]), line(1, [8, 9])], &[line(0, [0, 4]), line(1, [4, 8]), line(2, [8, 9])]);
    assert_eq!((comparison.first, comparison.compared(), comparison.pairs.len()), (None, 1, 4), "{comparison}");
    assert_eq!(comparison.conclusion(), Conclusion::NotAllCompared);
    // Nor do they match where records without a partner do not count.
    let directory = Directory::new(&[
        ("a.jsonl", &[line(0, [0, 8]), line(1, [8, 9])].join("\n")),
        ("b.jsonl", &[line(0, [0, 4]), line(1, [4, 8]), line(2, [8, 9])].join("\n")),
    ]);
    let options = bitnet_trace::compare::DiffOptions::default().with_only_common(true);
    let common = bitnet_trace::compare::diff_paths(
        directory.path("a.jsonl"),
        directory.path("b.jsonl"),
        &options,
        &mut |_, _| (),
    );
    assert!(!common.expect("readable").matches());
}

/// In execution order, also where some records know no tokens.
#[test]
fn records_without_tokens_keep_their_place_among_tokens() {
    let all = rows(4, 16);
    let run = |chunks: &[usize], by: f32| {
        trace("values", || {
            let mut at = 0;
            for (step, count) in chunks.iter().enumerate() {
                let mut chunk = all[at..at + count].to_vec();
                chunk[0][0] += by;
                let _step = TraceContext::seq(step).enter();
                TraceContext::tokens(at..at + count).in_scope(|| tap("h", &stacked(&chunk)));
                tap("logits", &tensor(&noise(9 + u32::try_from(step).expect("few"), 16)));
                at += count;
            }
        })
    };
    let comparison = compare(&run(&[4], 0.0), &run(&[1, 1, 1, 1], 0.5));
    assert_eq!(comparison.first_divergence().expect("one").key.to_string(), "token 0: h", "{comparison}");
    // The reference made it after all tokens.
    let place = |name: &str| comparison.pairs.iter().position(|pair| pair.key.to_string() == name);
    assert!(place("t0/logits") > place("token 3: h"), "{comparison}");
}

/// A range and its first token are two things.
#[test]
fn a_range_and_its_first_token_are_not_one() {
    let line = |seq: usize, tokens: [usize; 2]| {
        let count = tokens[1] - tokens[0];
        let more = format!(r#","seq":{seq},"stage":"x","tokens":[{},{}],"order":{seq}"#, tokens[0], tokens[1]);
        line(&format!("t{seq}/x"), &[count, 16], u8::try_from(count).expect("few"), &more)
    };
    let comparison = of_lines(&[line(0, [0, 4]), line(1, [0, 1])], &[line(0, [0, 1]), line(1, [0, 4])]);
    assert!(comparison.matches() && comparison.compared() == 2, "{comparison}");
}

/// A name that is there twice moves no repeat of another name.
#[test]
fn repeats_keep_their_numbers() {
    let side = |without: usize, doubled: usize| -> Vec<String> {
        let repeats = (0..12).filter(|call| *call != without);
        let name = |call: usize| if call == 0 { "x".to_owned() } else { format!("x#{call}") };
        // As files come: by name.
        let mut lines: Vec<String> =
            repeats.map(|call| line(&name(call), &[4], u8::try_from(call).expect("few"), "")).collect();
        lines.sort();
        lines.extend((0..doubled).map(|_| line("d", &[4], 99, "")));
        lines
    };
    let comparison = of_lines(&side(99, 2), &side(3, 1));
    assert_eq!((comparison.count(Verdict::Identical), comparison.count(Verdict::Diverged)), (12, 0), "{comparison}");
    assert_eq!(comparison.count(Verdict::OnlyReference), 2);
}

#[test]
fn the_limits_that_are_printed_are_enough() {
    let (a, b) = (tensor(&[1.0, 1.0]), tensor(&[1.0, 1.001_745_9]));
    let of = |x: &Tensor| trace("values", || tap("x", x));
    let comparison = compare(&of(&a), &of(&b));
    let printed = comparison.smallest_limits.expect("some").to_string();
    let rule: bitnet_trace::Tolerance = format!("[[rule]]\n{printed}").parse().expect("a rule");
    assert!(bitnet_trace::diff(&of(&a), &of(&b), &rule).matches(), "{printed}");
}

/// Speculative decoding computes a position twice: both are compared, or neither is another's partner.
#[test]
fn steps_that_cover_a_position_twice_are_pairs_of_their_own() {
    let all = rows(9, 16);
    let run = |ranges: &[[usize; 2]]| {
        trace("values", || {
            for (step, [start, end]) in ranges.iter().enumerate() {
                let _step = TraceContext::seq(step).with_tokens(*start..*end).enter();
                tap("proj", &stacked(&all[*start..*end]));
            }
        })
    };
    let comparison = compare(&run(&[[0, 5], [5, 8], [6, 9]]), &run(&[[0, 5], [5, 7], [6, 8], [7, 9]]));
    let mut keys: Vec<_> = comparison.pairs.iter().map(|pair| pair.key.to_string()).collect();
    assert!(comparison.first_divergence().is_none(), "{comparison}");
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all, "{comparison}");
    // The first five positions as a whole; then three rows twice on one side, two rows three times on the other.
    assert_eq!((comparison.compared(), comparison.pairs.len()), (7, 7), "{comparison}");
}
