//! The last line of defence against what the library takes for granted: a panic in it becomes an error. Its message is
//! also printed on standard error by the hook of the program, as that of any panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls the library; the error is its reason, or what it panicked with.
pub(super) fn caught<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // After a panic the library's caches are at worst empty.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(returned) => returned.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("the library `tokenizers` panicked: {message}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let index = std::hint::black_box(3);
        let message = caught(|| Ok([1, 2][index])).expect_err("a panic");
        assert!(message.contains("panicked: index out of bounds"), "{message}");
        assert_eq!(caught(|| Ok(1)), Ok(1));
        assert_eq!(caught::<()>(|| Err("no".into())), Err("no".to_owned()));
    }
}
