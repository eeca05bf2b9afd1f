//! What `bitnet run` prints while it generates: the text, or the ids of tokens.

use std::error::Error;
use std::io::{self, Write};

use bitnet_models::TextStream;

/// Takes the tokens of a run as they come.
pub(crate) struct Output<'a> {
    shown: Shown,
    text: Option<TextStream<'a>>,
    stop: StopTexts,
    /// All text so far.
    whole: String,
    /// Whether something was printed.
    begun: bool,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    Text,
    Ids,
}

impl<'a> Output<'a> {
    pub(crate) fn new(shown: Shown, text: Option<TextStream<'a>>, stop: &[String]) -> Self {
        Self { shown, text, stop: StopTexts::new(stop), whole: String::new(), begun: false }
    }

    /// Takes a token; returns whether the text ends with it.
    pub(crate) fn push(&mut self, token: u32) -> Result<bool, Box<dyn Error>> {
        if self.shown == Shown::Ids {
            let comma = if self.begun { "," } else { "" };
            self.print(&format!("{comma}{token}"))?;
        }
        let Some(text) = &mut self.text else { return Ok(false) };
        let new = text.push(token)?;
        let (new, ended) = self.stop.push(&new);
        self.add(&new)?;
        Ok(ended)
    }

    /// Ends the line and returns the text, `None` without a tokenizer.
    pub(crate) fn finish(mut self) -> Result<Option<String>, Box<dyn Error>> {
        let decoded = self.text.is_some();
        if let Some(text) = self.text.take() {
            let (mut rest, ended) = self.stop.push(&text.finish()?);
            if !ended {
                rest.push_str(&self.stop.rest());
            }
            self.add(&rest)?;
        }
        if self.shown != Shown::Nothing {
            self.print("\n")?;
        }
        Ok(decoded.then_some(self.whole))
    }

    /// Ends a line that an error cut short, so that its message has one of its own.
    pub(crate) fn abandon(mut self) {
        if self.begun {
            // The error that follows is what counts.
            let _ = self.print("\n");
        }
    }

    fn add(&mut self, text: &str) -> io::Result<()> {
        self.whole.push_str(text);
        if self.shown == Shown::Text && !text.is_empty() { self.print(text) } else { Ok(()) }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        self.begun = true;
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Ends a text before the first of some texts, which may come in parts.
struct StopTexts {
    texts: Vec<String>,
    /// The end of what came, as long as it may be the beginning of one of the texts.
    held: String,
    ended: bool,
}

impl StopTexts {
    fn new(texts: &[String]) -> Self {
        let texts = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        Self { texts, held: String::new(), ended: false }
    }

    /// Returns what comes before a stop text for certain, and whether one was found.
    fn push(&mut self, new: &str) -> (String, bool) {
        if self.ended {
            return (String::new(), true);
        }
        self.held.push_str(new);
        if let Some(at) = self.texts.iter().filter_map(|text| self.held.find(text)).min() {
            self.ended = true;
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let may_begin = |at: &usize| self.texts.iter().any(|text| text.starts_with(&self.held[*at..]));
        let certain = self.held.char_indices().map(|(at, _)| at).find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back and turned out to be no stop text.
    fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::StopTexts;

    /// What is shown of parts, and whether a stop text ended them.
    fn shown(stop: &[&str], parts: &[&str]) -> (String, bool) {
        let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
        let mut stop = StopTexts::new(&stop);
        let mut shown = String::new();
        for part in parts {
            let (text, ended) = stop.push(part);
            shown.push_str(&text);
            if ended {
                return (shown, true);
            }
        }
        shown.push_str(&stop.rest());
        (shown, false)
    }

    #[test]
    fn a_text_ends_before_a_stop_text_wherever_it_is_cut() {
        let text = "héllo\nUser: more";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let parts = [&text[..cut], &text[cut..]];
            assert_eq!(shown(&["\nUser:"], &parts), ("héllo".to_owned(), true));
            assert_eq!(shown(&["more!", "é"], &parts), ("h".to_owned(), true));
            assert_eq!(shown(&["more!"], &parts), (text.to_owned(), false));
            assert_eq!(shown(&[], &parts), (text.to_owned(), false));
        }
    }

    #[test]
    fn what_cannot_become_a_stop_text_is_not_held_back() {
        let mut stop = StopTexts::new(&["\n\n".to_owned()]);
        assert_eq!(stop.push("a\n"), ("a".to_owned(), false));
        assert_eq!(stop.push("b"), ("\nb".to_owned(), false));
        assert_eq!(stop.push("\n"), (String::new(), false));
        assert_eq!(stop.push("\nc"), (String::new(), true));
    }
}
