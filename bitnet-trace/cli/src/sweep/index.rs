//! The results as one HTML page that links the reports.

use std::fmt;

use super::result::{Failure, ScenarioResult, SweepVerdict, summary};
use super::screen::{NOTES, TITLES, cells};

/// The index of the reports.
pub(crate) struct Index<'a> {
    pub(crate) plan: &'a str,
    pub(crate) results: &'a [ScenarioResult],
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>bitnet-trace sweep</title>
<style>
:root { color-scheme: light dark; }
body { margin: 2rem; font: 15px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { margin: .3rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.good { color: light-dark(#17692f, #6fd08c); }
.bad { color: light-dark(#b3261e, #ff8a80); }
</style>
</head>
<body>
"#;

/// Text as it stands in HTML, in an element or in an attribute with quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            letter => write!(f, "{letter}"),
        })
    }
}

impl fmt::Display for Index<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        writeln!(f, "<h1>{}</h1>\n<p>{}</p>", Escaped(&summary(self.results)), Escaped(self.plan))?;
        write!(f, "<table>\n<thead><tr>")?;
        for title in TITLES {
            write!(f, "<th scope=\"col\">{title}</th>")?;
        }
        writeln!(f, "</tr></thead>\n<tbody>")?;
        self.results.iter().try_for_each(|result| row(f, result))?;
        writeln!(f, "</tbody>\n</table>\n</body>\n</html>")
    }
}

fn row(f: &mut fmt::Formatter<'_>, result: &ScenarioResult) -> fmt::Result {
    let [name, verdict, first, error, needed] = cells(result);
    let class = if result.verdict == SweepVerdict::Match { "good" } else { "bad" };
    let name = Escaped(&name);
    match &result.report {
        Some(report) => write!(f, "<tr><td><a href=\"{}\">{name}</a></td>", Escaped(report))?,
        None => write!(f, "<tr><td>{name}</td>")?,
    }
    write!(f, "<td class=\"{class}\">{}", Escaped(&verdict))?;
    let failure = result.failure.as_ref().map(Failure::message);
    let log = result.failure.iter().flat_map(|failure| &failure.log);
    let lines: Vec<&str> =
        failure.iter().chain(result.notes.iter().take(NOTES)).chain(log).map(String::as_str).collect();
    if !lines.is_empty() {
        write!(f, "<pre>{}</pre>", Escaped(&lines.join("\n")))?;
    }
    let (first, error, needed) = (Escaped(&first), Escaped(&error), Escaped(&needed));
    writeln!(f, "</td><td>{first}</td><td class=\"number\">{error}</td><td>{needed}</td></tr>")
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::sweep::result::{Failure, ScenarioResult};

    #[test]
    fn text_of_others_is_escaped() {
        let failure = Failure {
            side: Some("trace".into()),
            reason: "<script>alert(1)</script>".into(),
            log: vec!["</pre><img src=x onerror='a'>".into()],
        };
        let results = [ScenarioResult::failed("a", failure)];
        let page = Index { plan: "<b>&\"", results: &results }.to_string();
        for part in
            ["trace &lt;script&gt;", "&lt;/pre&gt;&lt;img src=x onerror=&#39;a&#39;&gt;", "&lt;b&gt;&amp;&quot;"]
        {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
    }
}
