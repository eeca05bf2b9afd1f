//! What a template's values cost where minijinja does not count: the fuel of the engine, taken before the work is done.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// How deep lists and dictionaries may be nested where they are written out. `serde_json` reads no more.
const MOST_DEPTH: usize = 128;

/// The bytes that one unit of fuel pays for, as in minijinja.
const BYTES_PER_FUEL: usize = 64;

/// Pays for a step and for bytes.
pub(super) fn pay(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + u64::try_from(bytes / BYTES_PER_FUEL).unwrap_or(u64::MAX))
}

/// Refuses a level that is too deep.
pub(super) fn check_depth(depth: usize) -> Result<(), Error> {
    if depth <= MOST_DEPTH {
        return Ok(());
    }
    let reason = format!("lists and dictionaries nested more than {MOST_DEPTH} deep cannot be written");
    Err(Error::new(ErrorKind::InvalidOperation, reason))
}

/// Pays for writing a value out, and returns about how many bytes it takes. A list may hold the same one many times:
/// what is written is much larger than what is in memory.
pub(super) fn of(state: &State, value: &Value) -> Result<usize, Error> {
    nested(state, value, 0)
}

fn nested(state: &State, value: &Value, depth: usize) -> Result<usize, Error> {
    check_depth(depth)?;
    let mut bytes = value.as_str().map_or(1, str::len);
    pay(state, bytes)?;
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        for item in value.try_iter()?.checked() {
            let item = item?;
            bytes = bytes.saturating_add(nested(state, &item, depth + 1)?);
            if value.kind() == ValueKind::Map {
                bytes = bytes.saturating_add(nested(state, &value.get_item(&item)?, depth + 1)?);
            }
        }
    }
    Ok(bytes)
}
