//! The filter `tojson` as transformers defines it: `json.dumps` of Python, without escapes for HTML.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::cost::{check_depth, pay};

/// Most spaces that a level is indented by.
const MOST_INDENT: usize = 16;

/// `json.dumps(value, ensure_ascii=, indent=, separators=, sort_keys=)`.
#[allow(clippy::needless_pass_by_value)] // the form of a filter
pub(super) fn to_json(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Value> = options.get("separators")?;
    let (between, after_key) = match separators.filter(|separators| !separators.is_none()) {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair = pair.try_iter()?.take(3).map(|text| text.as_str().map(str::to_owned));
            let pair: Vec<_> = pair.collect::<Option<_>>().ok_or_else(|| failed("expected two separators"))?;
            let pair: [String; 2] = pair.try_into().map_err(|_| failed("expected two separators"))?;
            pair.into()
        }
    };
    let mut writer = Writer {
        state,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent: indent.map(|spaces| spaces.min(MOST_INDENT)),
        between,
        after_key,
        json: String::new(),
    };
    options.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.json)
}

fn failed(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"))
}

struct Writer<'a, 'state, 'env> {
    state: &'a State<'state, 'env>,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<usize>,
    between: String,
    after_key: String,
    json: String,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        // A list may hold the same one many times: what is written is paid for as it is written.
        pay(self.state, 0)?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                self.list('[', ']', value.try_iter()?.checked(), depth, Self::value)
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                if self.sort_keys {
                    keys.sort();
                }
                self.list('{', '}', keys.into_iter().map(Ok), depth, |writer, key, depth| {
                    writer.key(key)?;
                    writer.push(&writer.after_key.clone())?;
                    writer.value(&value.get_item(key)?, depth)
                })
            }
            _ => {
                let scalar = scalar(value)?;
                self.text(value, &scalar)
            }
        }
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = Result<Value, Error>>,
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.json.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.push(&self.between.clone())?;
            }
            empty = false;
            self.new_line(depth + 1)?;
            write(self, &item?, depth + 1)?;
        }
        if !empty {
            self.new_line(depth)?;
        }
        self.json.push(close);
        Ok(())
    }

    /// JSON has no other keys than texts.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let written = scalar(key)?;
        if key.kind() == ValueKind::String { self.text(key, &written) } else { self.push(&format!("\"{written}\"")) }
    }

    fn text(&mut self, value: &Value, written: &str) -> Result<(), Error> {
        if value.kind() != ValueKind::String || !self.ensure_ascii {
            return self.push(written);
        }
        let mut escaped = String::with_capacity(written.len());
        for character in written.chars() {
            if (' '..='~').contains(&character) {
                escaped.push(character);
            } else {
                let units = character.encode_utf16(&mut [0; 2]).to_vec();
                escaped.extend(units.into_iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        self.push(&escaped)
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        match self.indent {
            Some(spaces) => self.push(&format!("\n{}", " ".repeat(spaces * depth))),
            None => Ok(()),
        }
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        pay(self.state, text.len())?;
        self.json.push_str(text);
        Ok(())
    }
}

/// What is no list and no dictionary.
fn scalar(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            serde_json::to_string(text).map_err(|error| failed(&error.to_string()))
        }
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number => f64::try_from(value.clone()).map(float),
        other => Err(failed(&format!("a value of the type {other} cannot be written"))),
    }
}

/// A number as Python prints it.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // Rust has an exponent where Python has one, but writes 1e16 for 1e+16 and 1e-5 for 1e-05.
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}
