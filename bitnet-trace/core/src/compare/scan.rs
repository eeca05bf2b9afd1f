//! Reads the head of a record in one pass, if its line has the plain form that programs write.
//!
//! `serde_json` for every line makes a comparison 15 % slower (155 instead of 135 ms, both sides at once) and takes 1.4
//! times the processor time: `cargo bench -p bitnet-trace-tests --bench diff` with `None` as the body of [`head`], and
//! `serde_json::from_str` for the lines that are then left.

use std::borrow::Cow;

use memchr::memchr;
use serde_core::de::IgnoredAny;

use super::head::{Head, Text};

/// The head of a record that has only known fields, and no escapes, no nested objects, no negative layer, and no null
/// in a field of the head. `None` for every other line, whether it is a record or not. The result is that of
/// `serde_json`.
pub(crate) fn head(line: &[u8]) -> Option<Head<'_>> {
    let mut scanner = Scanner { rest: line };
    let (mut name, mut shape, mut dtype, mut blake3) = (None, None, None, None);
    let (mut rms, mut num_elements) = (None, None);
    let (mut seq_index, mut layer_idx, mut stage, mut order, mut call) = (None, None, None, None, None);
    let (mut output, mut io, mut request, mut tokens, mut raw_blake3) = (None, None, None, None, None);
    scanner.eat(b'{')?;
    loop {
        let key = scanner.key()?;
        match key {
            b"name" => once(&mut name, scanner.text()?)?,
            b"shape" => once(&mut shape, scanner.list()?)?,
            b"dtype" => once(&mut dtype, scanner.text()?)?,
            b"blake3" => once(&mut blake3, scanner.text()?)?,
            b"rms" => once(&mut rms, scanner.skip()?)?,
            b"num_elements" => once(&mut num_elements, scanner.skip()?)?,
            b"seq_index" | b"seq" => once(&mut seq_index, scanner.size()?)?,
            b"layer_idx" | b"layer" => once(&mut layer_idx, scanner.size()?)?,
            b"stage" => once(&mut stage, scanner.text()?)?,
            b"order" => once(&mut order, scanner.whole()?)?,
            b"call" => once(&mut call, scanner.size()?)?,
            b"output" => once(&mut output, scanner.text()?)?,
            b"io" => once(&mut io, scanner.text()?)?,
            b"request" => once(&mut request, scanner.whole()?)?,
            b"tokens" => once(&mut tokens, scanner.two()?)?,
            b"raw_blake3" => once(&mut raw_blake3, scanner.text()?)?,
            b"min" | b"max" | b"mean" | b"nan_count" | b"inf_count" | b"zero_count" | b"sketch" | b"rows"
            | b"values" | b"site" | b"device" => scanner.skip()?,
            _ => return None,
        }
        if scanner.eat(b',').is_none() {
            break;
        }
    }
    scanner.eat(b'}')?;
    if !scanner.rest.is_empty() {
        return None;
    }
    let (rms, num_elements) = (rms.map(|()| IgnoredAny)?, num_elements.map(|()| IgnoredAny)?);
    Some(Head {
        name: Cow::Borrowed(name?),
        shape: shape?,
        dtype: Cow::Borrowed(dtype?),
        blake3: Cow::Borrowed(blake3?),
        seq_index,
        layer_idx,
        stage: stage.map(Text::from),
        order,
        call: call.unwrap_or_default(),
        output: output.map(Text::from),
        io: io.map(Text::from),
        request,
        tokens,
        raw_blake3: raw_blake3.map(Text::from),
        rms,
        num_elements,
    })
}

/// Sets a field; `None` if it occurs twice, so that `serde_json` refuses the line.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// The rest of a line. Each method consumes the thing that it is named for and the spaces after it, or returns `None`.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn eat(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        self.spaces();
        Some(())
    }

    fn spaces(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// A key with its colon. The key may contain anything.
    fn key(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(b"\"")?;
        let (key, rest) = rest.split_at(memchr(b'"', rest)?);
        self.rest = &rest[1..];
        self.spaces();
        self.eat(b':')?;
        Some(key)
    }

    /// A string without escapes.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(b"\"")?;
        let (text, rest) = rest.split_at(memchr(b'"', rest)?);
        let special = |byte| u8::from(byte < b' ') | u8::from(byte == b'\\');
        if text.iter().fold(0, |found, byte| found | special(*byte)) != 0 {
            return None;
        }
        self.rest = rest;
        self.eat(b'"')?;
        Some(text)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The digits that come next; `None` if there are none.
    fn digits(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!digits.is_empty()).then_some(digits)
    }

    /// Digits without a leading zero.
    fn integer(&mut self) -> Option<&'a [u8]> {
        self.digits().filter(|digits| digits.len() == 1 || digits[0] != b'0')
    }

    /// A whole number of at most 18 digits, which fits every 64-bit integer type.
    fn whole(&mut self) -> Option<u64> {
        let digits = self.integer().filter(|digits| digits.len() <= 18)?;
        self.end_of_value()?;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn size(&mut self) -> Option<usize> {
        self.whole().and_then(|number| usize::try_from(number).ok())
    }

    /// Checks that a value without an end of its own is followed by `,`, `]` or `}`.
    fn end_of_value(&mut self) -> Option<()> {
        self.spaces();
        matches!(self.rest.first(), Some(b',' | b']' | b'}')).then_some(())
    }

    /// A list of whole numbers.
    fn list(&mut self) -> Option<Vec<usize>> {
        let mut list = Vec::with_capacity(4);
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(list);
        }
        loop {
            list.push(self.size()?);
            if self.eat(b',').is_none() {
                self.eat(b']')?;
                return Some(list);
            }
        }
    }

    /// A list of two whole numbers.
    fn two(&mut self) -> Option<[usize; 2]> {
        self.eat(b'[')?;
        let first = self.size()?;
        self.eat(b',')?;
        let second = self.size()?;
        self.eat(b']')?;
        Some([first, second])
    }

    /// Skips a value.
    fn skip(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.bytes().map(|_| ()),
            b'[' => self.skip_list(),
            b'n' => {
                self.rest = self.rest.strip_prefix(b"null")?;
                self.end_of_value()
            }
            _ => self.skip_number(),
        }
    }

    /// Skips a list of strings and numbers. It must not contain further lists.
    fn skip_list(&mut self) -> Option<()> {
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            if self.rest.first() == Some(&b'[') {
                return None;
            }
            self.skip()?;
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
        }
    }

    fn skip_number(&mut self) -> Option<()> {
        self.skip_byte(|byte| byte == b'-');
        self.integer()?;
        if self.skip_byte(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.skip_byte(|byte| matches!(byte, b'e' | b'E')) {
            self.skip_byte(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        self.end_of_value()
    }

    fn skip_byte(&mut self, is: impl Fn(u8) -> bool) -> bool {
        match self.rest {
            [first, rest @ ..] if is(*first) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::sample::Index;

    use super::super::head::Head;
    use super::head;
    use crate::record::TraceRecord;

    /// Records as this library writes them, as Python's `json` writes them, and in other forms.
    const LINES: [&str; 6] = [
        r#"{"name":"t1/blk0/q_proj","shape":[1,2,2560],"dtype":"F32","blake3":"00ff","rms":0.12300331964360307,"num_elements":5120,"seq_index":1,"layer_idx":0,"stage":"q_proj","order":17,"call":2,"output":"x","io":"in","request":3,"tokens":[5,7],"min":-1.5e-7,"max":null,"mean":1E+3,"zero_count":4,"sketch":"AACAPw==","rows":["0011","2233"],"values":"values/0.safetensors","raw_blake3":"ab","site":"src/model.rs:7 q_proj","device":"cuda:0"}"#,
        r#"{"name": "x", "shape": [ ], "dtype": "BF16", "blake3": "", "rms": null, "num_elements": 0, "seq": 0, "layer": 4 }"#,
        r#"{"name":"a\nb","shape":[1],"dtype":"F32","blake3":"00","rms":1,"num_elements":1,"layer":-1,"extra":{"a":[1,[2]]}}"#,
        r#"{"name":"a","shape":[01],"dtype":"F32","blake3":"00","rms":1.,"num_elements":1,"rows":[]}"#,
        r#"{"name":"a","shape":[18446744073709551615],"dtype":"F32","blake3":"é","rms":0.0,"num_elements":1,"stage":null}"#,
        r#"{"name":"a","name":"b","seq":1,"seq_index":1,"shape":[1],"dtype":"F32","blake3":"00","rms":0.0,"num_elements":1}"#,
    ];

    /// Whether the line is read. If it is, the result must be that of `serde_json`.
    fn agrees(line: &[u8]) -> bool {
        let Some(found) = head(line) else { return false };
        let expected: Head<'_> = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{} was read, but {error}", String::from_utf8_lossy(line)));
        assert_eq!(found, expected);
        true
    }

    #[test]
    fn plain_lines_are_read_and_others_left() {
        let read: Vec<bool> = LINES.iter().map(|line| agrees(line.as_bytes())).collect();
        assert_eq!(read, [true, true, false, false, false, false]);
    }

    /// The record is written out field by field, so that a new field cannot be forgotten here.
    #[test]
    fn a_record_of_every_field_is_a_plain_line() {
        let text = |text: &str| Some(text.to_owned());
        let record = TraceRecord {
            name: "t1/blk0/q_proj.in.x#2".to_owned(),
            shape: vec![1, 2560],
            dtype: "F64".to_owned(),
            blake3: "ab".repeat(32),
            rms: f64::NAN,
            num_elements: 2560,
            seq_index: Some(1),
            layer_idx: Some(0),
            stage: text("q_proj"),
            order: Some(17),
            call: 2,
            output: text("x"),
            io: text("in"),
            request: Some(3),
            tokens: Some([5, 7]),
            min: Some(-1.5e-7),
            max: None,
            mean: Some(0.1),
            nan_count: 1,
            inf_count: 2,
            zero_count: 3,
            sketch: text("AACAPw=="),
            rows: Some(vec!["0011223344556677".to_owned()]),
            values: text("values/0.safetensors"),
            raw_blake3: Some("cd".repeat(32)),
            site: text("src/model.rs:7 q_proj"),
            device: text("cuda:0"),
        };
        assert!(agrees(&serde_json::to_vec(&record).expect("JSON")));
    }

    #[test]
    fn the_beginning_of_a_record_is_none() {
        for line in &LINES[..2] {
            for end in 0..line.len() {
                let part = &line.as_bytes()[..end];
                assert!(head(part).is_none(), "{}", String::from_utf8_lossy(part));
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_lines_are_read_as_by_serde_json(
            line in any::<Index>(), edits in vec((any::<Index>(), any::<Index>(), any::<Option<Index>>()), 1..4),
        ) {
            let mut bytes = line.get(&LINES).as_bytes().to_vec();
            let pool: Vec<u8> = br#"{}[]",:0123456789.eE+-null\ "#.iter().copied().chain([0, 9, 10, 0x7f, 0xc3, 0xff]).collect();
            for (at, from, other) in edits {
                let at = at.index(bytes.len());
                match other {
                    Some(other) if other.index(2) == 0 => bytes.insert(at, *from.get(&pool)),
                    Some(_) => bytes[at] = *from.get(&pool),
                    None => drop(bytes.remove(at)),
                }
            }
            agrees(&bytes);
        }
    }
}
