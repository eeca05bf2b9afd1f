//! Makes the name of the file that a record is written to.

/// Longest file name without extension, in bytes: file systems allow 255, and a repeat number and the extension
/// follow.
const LONGEST: usize = 200;

/// The record's name as a file name that every file system accepts. `/` and `\` become `_` (as in the earlier
/// tracer), and so do control characters and `<>:"|?*`. A name that is too long is cut and ends in 16 hex digits
/// of its BLAKE3.
pub(crate) fn file_stem(name: &str) -> String {
    let mut stem: String = name
        .chars()
        .map(|c| match c {
            '/' | '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    if stem.len() > LONGEST {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let mut end = LONGEST - 17;
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        stem.truncate(end);
        stem.push('-');
        stem.push_str(&hash[..16]);
    }
    // A leading dot would hide the file; an empty name and the name of a Windows device are not valid.
    if stem.is_empty() || stem.starts_with('.') || is_device(&stem) {
        stem.insert(0, '_');
    }
    stem
}

/// Whether Windows reserves the name for a device; it does so with any extension.
fn is_device(stem: &str) -> bool {
    let base = stem.split('.').next().unwrap_or(stem).to_ascii_uppercase();
    let numbered = |prefix: &str| {
        base.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(base.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, file_stem};

    #[test]
    fn file_names_are_safe() {
        assert_eq!(file_stem("t0/blk0/attn_norm"), "t0_blk0_attn_norm");
        assert_eq!(file_stem(r#"a\b<c>:"|?*"#), "a_b_c______");
        assert_eq!(file_stem("a\0b\n"), "a_b_");
        assert_eq!(file_stem(".."), "_..");
        assert_eq!(file_stem(""), "_");
        assert_eq!(file_stem("nul"), "_nul");
        assert_eq!(file_stem("COM1.x"), "_COM1.x");
        assert_eq!(file_stem("common"), "common");
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let (a, b) = ("ä".repeat(200) + "a", "ä".repeat(200) + "b");
        assert!(file_stem(&a).len() <= LONGEST);
        assert_ne!(file_stem(&a), file_stem(&b));
    }
}
