//! A prefill against decode steps or chunks of the same positions: both sides are aligned by the
//! positions that they computed, and tensors of several tokens are taken apart into rows where the
//! other side has no tensor of the same positions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::builder::count_repeats;
use super::super::entry::{Entry, Kind};
use super::super::key::{Label, Position};
use super::super::measure::{Step, squeezed};

/// Most rows that a side is taken apart into: what a file claims must not take all memory.
const MOST_ROWS: usize = 1 << 21;

/// Most rows of few elements: what is kept of a row is larger than such a row itself.
const MOST_SMALL_ROWS: usize = 1 << 18;

/// Tensors of more dimensions are not taken apart.
const MOST_DIMENSIONS: usize = 8;

/// Rows of fewer elements are small.
const SMALL: usize = 64;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) by_token: bool,
    pub(crate) problems: Vec<String>,
    pub(crate) hints: Vec<String>,
    /// Records that could not be taken apart.
    pub(crate) whole: usize,
}

/// Whether the values of an entry of a side were captured: only they can be taken apart.
pub(crate) type IsCaptured<'f> = &'f dyn Fn(&Entry) -> bool;

/// Whose positions: a process and a request.
type Scope = (u32, Option<u64>);

/// Positions of tokens, the end excluded.
type Range = [usize; 2];

fn scope_of(entry: &Entry) -> Scope {
    (entry.position.process, entry.position.request)
}

fn range_of(entry: &Entry) -> Option<Range> {
    entry.tokens.filter(|[start, end]| start < end)
}

/// Aligns by positions wherever the sides computed the same positions in other steps.
pub(crate) fn align_positions(
    reference: &mut Vec<Entry>,
    trace: &mut Vec<Entry>,
    is_captured: [IsCaptured<'_>; 2],
) -> Outcome {
    let steps = [steps_of(reference), steps_of(trace)];
    let scopes: HashSet<Scope> = steps[0]
        .iter()
        .filter(|(scope, ours)| steps[1].get(scope).is_some_and(|theirs| differ(ours, theirs)))
        .map(|(scope, _)| *scope)
        .collect();
    if scopes.is_empty() {
        return Outcome::default();
    }
    let forms = Forms::of([reference, trace], &scopes);
    let mut outcome = Outcome { by_token: true, ..Outcome::default() };
    for (number, side) in [reference, trace].into_iter().enumerate() {
        let whole = std::mem::take(side);
        let mut apart = Apart {
            forms: &forms,
            side: number,
            is_captured: is_captured[number],
            entries: Vec::new(),
            rows: HashMap::new(),
            last: None,
            small: 0,
            left: 0,
            without_values: 0,
        };
        let mut process = None;
        for entry in whole {
            if process.replace(entry.position.process) != Some(entry.position.process) {
                apart.last = None;
            }
            if scopes.contains(&scope_of(&entry)) { apart.push(entry) } else { apart.keep(entry) }
        }
        outcome.whole += apart.left + apart.without_values;
        let name = ["reference", "trace"][number];
        if apart.left > 0 {
            outcome.problems.push(format!(
                "{} records of the {name} were not compared token by token: more than {MOST_ROWS} rows, or more than \
                 {MOST_SMALL_ROWS} of less than {SMALL} elements",
                apart.left
            ));
        }
        if apart.without_values > 0 {
            outcome.hints.push(format!(
                "{} records of the {name} hold several tokens that the other side computed in other steps; to compare \
                 them token by token, capture their values: BITNET_TRACE_CAPTURE=values",
                apart.without_values
            ));
        }
        apart.entries.sort_by_key(|(token, entry)| (entry.position.process, *token, entry.order));
        *side = apart.entries.into_iter().map(|(_, entry)| entry).collect();
        // Steps may cover a position twice.
        count_repeats(side);
    }
    for label in &forms.unclear {
        outcome.problems.push(format!(
            "stage {} was not compared token by token: its shapes do not tell which dimension holds the tokens",
            label.stage
        ));
    }
    outcome
}

/// The steps that computed each range of positions.
type Steps = BTreeMap<Range, BTreeSet<Option<usize>>>;

fn steps_of(entries: &[Entry]) -> HashMap<Scope, Steps> {
    let mut all: HashMap<Scope, Steps> = HashMap::new();
    let mut last = None;
    for entry in entries {
        let Some(range) = range_of(entry) else { continue };
        let found = (scope_of(entry), range, entry.position.seq);
        if last != Some(found) {
            all.entry(found.0).or_default().entry(range).or_default().insert(found.2);
            last = Some(found);
        }
    }
    all
}

/// Whether the sides computed positions that both have in other steps, or number these differently.
fn differ(ours: &Steps, theirs: &Steps) -> bool {
    let extent = |steps: &Steps| {
        let ends = steps.keys().map(|range| range[1]).max();
        steps.keys().next().map(|first| first[0]).zip(ends)
    };
    let (Some((start, end)), Some((other_start, other_end))) = (extent(ours), extent(theirs)) else { return false };
    let common = [start.max(other_start), end.min(other_end)];
    let touches = |range: &Range| range[0] < common[1] && common[0] < range[1];
    let unequal = |one: &Steps, other: &Steps| {
        one.iter().filter(|(range, _)| touches(range)).any(|(range, steps)| match other.get(range) {
            None => true,
            // A step that one side does not know contradicts nothing.
            Some(others) => !steps.contains(&None) && !others.contains(&None) && steps.is_disjoint(others),
        })
    };
    unequal(ours, theirs) || unequal(theirs, ours)
}

/// What a stage's tensors are to the tokens of their step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// One row a token, along this dimension.
    Rows(usize),
    /// The row of the last token, whatever the number of tokens.
    Last,
    /// Rows of which the other side has the last one only.
    LastOf(usize),
}

/// The forms of the stages on both sides, and the ranges that both sides have.
struct Forms {
    by_stage: HashMap<Label, [Form; 2]>,
    unclear: Vec<Label>,
    /// Stages, layers and ranges of each side: what both have is compared whole.
    ranges: [HashSet<(Position, Label, Range)>; 2],
}

/// Shapes of a stage's tensors, with the number of tokens of each.
type Shapes = HashSet<(Box<[usize]>, usize)>;

impl Forms {
    fn of(sides: [&[Entry]; 2], scopes: &HashSet<Scope>) -> Self {
        let mut shapes: HashMap<Label, [Shapes; 2]> = HashMap::new();
        let mut ranges = [HashSet::new(), HashSet::new()];
        for (side, entries) in sides.into_iter().enumerate() {
            let inside = entries.iter().filter(|entry| scopes.contains(&scope_of(entry)));
            for (entry, range) in inside.filter_map(|entry| Some((entry, range_of(entry)?))) {
                let label = &entry.kind.label;
                if !shapes.contains_key(label) {
                    shapes.insert(label.clone(), Default::default());
                }
                if let Some(found) = shapes.get_mut(label) {
                    found[side].insert((entry.kind.shape.clone(), range[1] - range[0]));
                }
                if range[1] - range[0] > 1 {
                    ranges[side].insert(whole(entry, range));
                }
            }
        }
        let (mut by_stage, mut unclear) = (HashMap::new(), Vec::new());
        for (label, shapes) in shapes {
            let several = shapes.iter().flatten().any(|(_, tokens)| *tokens > 1);
            if shapes.iter().any(HashSet::is_empty) || !several {
                continue;
            }
            match form(&shapes) {
                Some(form) => drop(by_stage.insert(label, form)),
                None => unclear.push(label),
            }
        }
        unclear.sort_by(|a, b| a.stage.cmp(&b.stage));
        Self { by_stage, unclear, ranges }
    }
}

/// A stage, layer and range, without what may differ between the sides.
fn whole(entry: &Entry, range: Range) -> (Position, Label, Range) {
    (Position { seq: None, call: 0, ..entry.position }, entry.kind.label.clone(), range)
}

/// The only way to see the shapes of both sides as rows of tokens; `None` where there are several, or
/// there is none.
fn form(shapes: &[Shapes; 2]) -> Option<[Form; 2]> {
    let dims = [token_dimensions(&shapes[0]), token_dimensions(&shapes[1])];
    if same_rank(&shapes[0], &shapes[1]) {
        // A dimension of both: it holds the tokens of every step on both sides.
        let both: Vec<usize> = dims[0].iter().filter(|dim| dims[1].contains(dim)).copied().collect();
        if let [dim] = both[..] {
            return Some([Form::Rows(dim); 2]);
        }
        if both.len() > 1 {
            return None;
        }
    }
    let last = [is_last_row(&shapes[0]), is_last_row(&shapes[1])];
    match last {
        [true, true] => return Some([Form::Last; 2]),
        [true, false] => return Some([Form::Last, Form::LastOf(one_row(&shapes[1], &dims[1], &shapes[0])?)]),
        [false, true] => return Some([Form::LastOf(one_row(&shapes[0], &dims[0], &shapes[1])?), Form::Last]),
        [false, false] => {}
    }
    // A side that has one token at a time needs no dimension for it: those of size 1 are all alike.
    let single = |shapes: &Shapes| shapes.iter().all(|(_, tokens)| *tokens == 1);
    let candidates = |side: usize| {
        let dims = dims[side].iter().copied().map(Some).collect();
        if single(&shapes[side]) { vec![None] } else { dims }
    };
    let mut found = Vec::new();
    for left in candidates(0) {
        for right in candidates(1) {
            if rows_agree(&shapes[0], left, &shapes[1], right) {
                found.push([left, right]);
            }
        }
    }
    match found[..] {
        [dims] => Some(dims.map(|dim| Form::Rows(dim.unwrap_or(0)))),
        _ => None,
    }
}

/// Dimensions whose size is the number of tokens in every one of the shapes.
fn token_dimensions(shapes: &Shapes) -> Vec<usize> {
    let rank = shapes.iter().map(|(dims, _)| dims.len()).min().unwrap_or(0);
    if rank > MOST_DIMENSIONS {
        return Vec::new();
    }
    (0..rank).filter(|dim| shapes.iter().all(|(dims, tokens)| dims[*dim] == *tokens)).collect()
}

fn same_rank(a: &Shapes, b: &Shapes) -> bool {
    let ranks: HashSet<usize> = a.iter().chain(b).map(|(dims, _)| dims.len()).collect();
    ranks.len() == 1
}

/// Whether the shapes are the same for every number of tokens, of which there are more than one.
fn is_last_row(shapes: &Shapes) -> bool {
    let sizes: HashSet<Vec<usize>> = shapes.iter().map(|(dims, _)| squeezed(dims)).collect();
    let holds = |(dims, tokens): &(Box<[usize]>, usize)| *tokens > 1 && !dims.contains(tokens);
    sizes.len() == 1 && shapes.iter().any(holds)
}

/// The one dimension without which every shape is that of the other side.
fn one_row(shapes: &Shapes, dims: &[usize], row: &Shapes) -> Option<usize> {
    let row = squeezed(&row.iter().next()?.0);
    let fits = |dim: &&usize| shapes.iter().all(|(dims, _)| without(dims, **dim) == row);
    let found: Vec<&usize> = dims.iter().filter(fits).collect();
    match found[..] {
        [dim] => Some(*dim),
        _ => None,
    }
}

/// Whether rows of the two sides have the same dimensions. Rows of attention scores are as long as
/// the positions known to their step: the last dimension may differ.
fn rows_agree(a: &Shapes, dim: Option<usize>, b: &Shapes, other: Option<usize>) -> bool {
    let row = |(dims, _): &(Box<[usize]>, usize), dim: Option<usize>| -> Vec<usize> {
        let last = dims.len().wrapping_sub(1);
        let kept = |at: usize| Some(at) != dim && (at != last || dim == Some(last));
        dims.iter().enumerate().filter(|(at, size)| kept(*at) && **size != 1).map(|(_, size)| *size).collect()
    };
    let (ours, theirs) = (a.iter().map(|shape| row(shape, dim)), b.iter().map(|shape| row(shape, other)));
    ours.chain(theirs).collect::<HashSet<_>>().len() == 1
}

fn without(dims: &[usize], dim: usize) -> Vec<usize> {
    dims.iter().enumerate().filter(|(at, size)| *at != dim && **size != 1).map(|(_, size)| *size).collect()
}

/// One side in the making.
struct Apart<'f> {
    forms: &'f Forms,
    side: usize,
    is_captured: IsCaptured<'f>,
    /// Each with the token that it is sorted by.
    entries: Vec<(Option<usize>, Entry)>,
    /// The last token of the record before: one that knows no tokens comes after it.
    last: Option<usize>,
    /// What rows share, by the kind that they are of and index.
    rows: HashMap<(*const Kind, usize), Arc<Kind>>,
    /// Rows of few elements so far.
    small: usize,
    /// Records that were left whole, as there are too many rows.
    left: usize,
    /// Records that were left whole, as only values can be taken apart.
    without_values: usize,
}

impl Apart<'_> {
    fn keep(&mut self, entry: Entry) {
        self.last = entry.position.token.or(self.last);
        self.entries.push((self.last, entry));
    }

    fn push(&mut self, entry: Entry) {
        let Some([start, end]) = range_of(&entry) else { return self.keep(entry) };
        let at = |token: usize| Position { seq: None, token: Some(token), ..entry.position };
        if end - start == 1 {
            let position = at(start);
            return self.keep(Entry { position, ..entry });
        }
        let both = self.forms.ranges.iter().all(|ranges| ranges.contains(&whole(&entry, [start, end])));
        match self.forms.by_stage.get(&entry.kind.label).map(|forms| forms[self.side]) {
            _ if both => {
                let position = Position { until: Some(end), ..at(start) };
                self.keep(Entry { position, ..entry });
                self.last = Some(end - 1);
            }
            Some(Form::Last) => {
                let position = at(end - 1);
                self.keep(Entry { position, ..entry });
            }
            Some(Form::LastOf(_) | Form::Rows(_)) if !(self.is_captured)(&entry) => {
                self.without_values += 1;
                self.alone(entry, end);
            }
            Some(Form::LastOf(dim)) => self.row(&entry, dim, end - start - 1, at(end - 1)),
            Some(Form::Rows(dim)) if self.has_room(&entry, dim) => {
                for token in start..end {
                    self.row(&entry, dim, token - start, at(token));
                }
            }
            Some(_) => {
                self.left += 1;
                self.alone(entry, end);
            }
            // Its shape does not tell where its tokens are, or the other side does not have the stage.
            None => self.alone(entry, end),
        }
    }

    /// Keeps a record whole, without a partner, after its tokens.
    fn alone(&mut self, entry: Entry, end: usize) {
        self.last = Some(end - 1);
        self.entries.push((self.last, Entry { alone: true, ..entry }));
    }

    /// Whether the rows of another record may be kept.
    fn has_room(&mut self, entry: &Entry, dim: usize) -> bool {
        let rows = entry.kind.shape[dim];
        let elements = without(&entry.kind.shape, dim).into_iter().fold(1, usize::saturating_mul);
        let small = if elements < SMALL { rows } else { 0 };
        if self.entries.len().saturating_add(rows) > MOST_ROWS || self.small.saturating_add(small) > MOST_SMALL_ROWS {
            return false;
        }
        self.small += small;
        true
    }

    fn row(&mut self, entry: &Entry, dim: usize, index: usize, position: Position) {
        let kind = self.rows.entry((Arc::as_ptr(&entry.kind), index)).or_insert_with(|| {
            let steps = entry.kind.steps.iter().cloned().chain([Step::Row { dim, index }]).collect();
            Arc::new(Kind { steps, ..(*entry.kind).clone() })
        });
        let token = position.token.unwrap_or_default();
        let kind = Arc::clone(kind);
        self.keep(Entry { position, kind, tokens: Some([token, token + 1]), ..entry.clone() });
    }
}
