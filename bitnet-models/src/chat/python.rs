//! Methods of Python's strings that templates may call: those of `minijinja_contrib`, and some more.

use minijinja::value::{Tuple, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::cost;

type Result<T> = std::result::Result<T, Error>;

/// Calls a method that minijinja itself does not have.
pub(super) fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value> {
    if let Some(text) = value.as_str()
        && let Some(returned) = text_method(state, text, name, arguments)?
    {
        return Ok(returned);
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Calls a method of a string; `None` if it is left to `minijinja_contrib`.
fn text_method(state: &State, text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>> {
    let tuple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    Ok(Some(match name {
        "format" => {
            check_fields(text)?;
            pay_for_format(state, text, arguments)?;
            return Ok(None);
        }
        "join" => join(state, text, arguments)?,
        "center" | "ljust" | "rjust" | "zfill" => pad(state, text, name, arguments)?,
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            if separator.is_empty() {
                return Err(invalid("the separator is empty"));
            }
            match (name, text.split_once(separator), text.rsplit_once(separator)) {
                ("partition", Some((before, after)), _) | ("rpartition", _, Some((before, after))) => {
                    tuple([before, separator, after])
                }
                ("partition", ..) => tuple([text, "", ""]),
                _ => tuple(["", "", text]),
            }
        }
        "rsplit" => rsplit(text, arguments)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "swapcase" => {
            let () = from_args(arguments)?;
            let swapped = text.chars().map(|character| {
                if character.is_uppercase() {
                    character.to_lowercase().to_string()
                } else {
                    character.to_uppercase().to_string()
                }
            });
            Value::from(swapped.collect::<String>())
        }
        _ => return Ok(None),
    }))
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_owned())
}

/// Refuses characters in the fields of a format over which minijinja 3.1 panics: it looks for their ends byte by byte. A
/// `[` goes on to its `]`, whatever is between.
fn check_fields(format: &str) -> Result<()> {
    let mut rest = format;
    while let Some((_, behind)) = rest.split_once('{') {
        if let Some(escaped) = behind.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let (field, after) = behind.split_once('}').unwrap_or((behind, ""));
        let read = if field.contains('[') { behind } else { field };
        if let Some(character) = read.chars().find(|character| !character.is_ascii()) {
            return Err(invalid(&format!("format: a field has the character {character:?}; expected ASCII")));
        }
        rest = after;
    }
    Ok(())
}

/// Pays for what the fields of a format may become, before any of it is made: each of them may be as wide as any number
/// in the format says, and hold all arguments.
fn pay_for_format(state: &State, format: &str, arguments: &[Value]) -> Result<()> {
    let numbers = format.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let width = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0usize, usize::saturating_add);
    let mut size = width;
    for argument in arguments {
        size = size.saturating_add(cost::of(state, argument)?);
    }
    cost::pay(state, size.saturating_mul(format.matches('{').count()))
}

fn join(state: &State, separator: &str, arguments: &[Value]) -> Result<Value> {
    let (items,): (&Value,) = from_args(arguments)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.checked().enumerate() {
        let item = item?;
        let Some(text) = item.as_str() else {
            return Err(invalid(&format!("join: item {index} is a {}; expected a string", item.kind())));
        };
        cost::pay(state, separator.len() + text.len())?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
    }
    Ok(Value::from(joined))
}

fn pad(state: &State, text: &str, name: &str, arguments: &[Value]) -> Result<Value> {
    let (width, fill): (usize, Option<char>) = from_args(arguments)?;
    let missing = width.saturating_sub(text.chars().count());
    let fill = fill.unwrap_or(if name == "zfill" { '0' } else { ' ' });
    cost::pay(state, missing.saturating_mul(fill.len_utf8()))?;
    let filled = |count| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(Value::from(match name {
        "ljust" => text.to_owned() + &filled(missing),
        "rjust" => filled(missing) + text,
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            sign.to_owned() + &filled(missing) + digits
        }
        // Python puts the odd one to the left where the width is odd too.
        _ => {
            let left = missing / 2 + (missing & width & 1);
            filled(left) + text + &filled(missing - left)
        }
    }))
}

fn rsplit(text: &str, arguments: &[Value]) -> Result<Value> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
    let most = most.and_then(|most| usize::try_from(most).ok());
    let mut parts: Vec<&str> = Vec::new();
    match separator {
        Some("") => return Err(invalid("the separator is empty")),
        Some(separator) => match most {
            Some(most) => parts.extend(text.rsplitn(most.saturating_add(1), separator)),
            None => parts.extend(text.rsplit(separator)),
        },
        None => {
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let word = rest.rsplit(char::is_whitespace).next().unwrap_or(rest);
                if most == Some(parts.len()) || word.len() == rest.len() {
                    parts.push(rest.trim_start());
                    break;
                }
                parts.push(word);
                rest = rest[..rest.len() - word.len()].trim_end();
            }
            parts.retain(|part| !part.is_empty());
        }
    }
    Ok(parts.into_iter().rev().map(Value::from).collect())
}
