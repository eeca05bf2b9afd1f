use serde_json::Value;

use super::{ChatTemplate, Message};

fn chats() -> Value {
    serde_json::from_str(include_str!("../../tests/text/chats.json")).expect("JSON")
}

fn texts(pair: &Value) -> Message {
    Message::new(pair[0].as_str().expect("a role"), pair[1].as_str().expect("a content"))
}

/// What `apply_chat_template` of transformers made of the same templates and messages.
#[test]
fn a_prompt_is_that_of_transformers() {
    let golden = chats();
    let token = |name: &str| golden[name].as_str().map(str::to_owned);
    let (mut prompts, mut refusals) = (0, 0);
    for chat in golden["chats"].as_array().expect("chats") {
        let name = chat["template"].as_str().expect("a name");
        let source = golden["templates"][name].as_str().expect("a template");
        let template = ChatTemplate::new(source, "t.jinja").expect("a template");
        let template = template.with_tokens(token("bos_token"), token("eos_token"));
        let messages: Vec<Message> = chat["messages"].as_array().expect("messages").iter().map(texts).collect();
        match (template.render(&messages), chat["prompt"].as_str(), chat["refused"].as_str()) {
            (Ok(prompt), Some(expected), _) => {
                assert_eq!(prompt, expected, "{name}");
                prompts += 1;
            }
            (Err(error), None, Some(expected)) => {
                let message = error.to_string();
                assert!(message.starts_with("t.jinja: ") && message.contains(expected), "{message}");
                refusals += 1;
            }
            (rendered, ..) => panic!("{name}: {rendered:?}, expected {chat}"),
        }
    }
    assert!(prompts > 30 && refusals > 3, "{prompts} prompts, {refusals} refusals");
}

#[test]
fn an_error_names_the_file_and_the_line() {
    let error = ChatTemplate::new("{{ 'a' }}\n{% if %}", "models/x/chat_template.jinja").expect_err("no condition");
    assert!(error.to_string().starts_with("models/x/chat_template.jinja: chat template, line 2: "), "{error}");
    let template = ChatTemplate::new("a\n{{ messages[0].content.fly() }}", "t.jinja").expect("a template");
    let error = template.render(&[Message::new("user", "")]).expect_err("no such method").to_string();
    assert!(error.starts_with("t.jinja: chat template, line 2: ") && error.contains("fly"), "{error}");
}

#[test]
fn a_template_cannot_run_for_long_or_fill_the_memory() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ 'ab' * 1000000000000 }}",
        "{{ ['ab'] * 1000000000 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ messages[0].content.replace('', 'x' * 100000).replace('x', 'x' * 100000) }}",
        "{% for a in range(100000) %}{{ messages | tojson(indent=100000) }}{% endfor %}",
    ] {
        let template = ChatTemplate::new(source, "t.jinja").expect("a template");
        let error = template.render(&[Message::new("user", "hello")]).expect_err(source).to_string();
        assert!(error.starts_with("t.jinja: chat template"), "{error}");
    }
}

#[test]
fn the_syntax_may_not_be_nested_without_end() {
    let nested = format!("{}1{}", "{{ ".to_owned() + &"(".repeat(100_000), ")".repeat(100_000) + " }}");
    assert!(ChatTemplate::new(nested, "t.jinja").is_err());
    let blocks = "{% if 1 %}".repeat(100_000) + &"{% endif %}".repeat(100_000);
    assert!(ChatTemplate::new(blocks, "t.jinja").is_err());
}

/// The first of these is the most expensive syntax for its length that each kind of expression and tag has.
#[test]
fn a_template_of_any_size_is_refused_or_parsed() {
    let most = usize::try_from(super::LARGEST_TEMPLATE).expect("a size");
    let fill = |before: &str, repeated: &str, after: &str, bytes: usize| {
        let count = (bytes - before.len() - after.len()) / repeated.len();
        [before, &repeated.repeat(count), after].concat()
    };
    for (before, repeated, after) in [
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "-1", " }}"),
        ("{{ 1", "~1", " }}"),
        ("{{ 1", "*1", " }}"),
        ("{{ 1", "<1", " }}"),
        ("{{ 1", " or 1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ a", ".a", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ a", "[:]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ a", "|d", " }}"),
        ("{{ a", " is none", " }}"),
        ("{{ a", " if a", " }}"),
        ("{{ a", " if a else a", " }}"),
        ("{% if a %}", "{%elif a%}", "{% endif %}"),
        ("{% if a %}", "{%else%}{%if a%}", "{% endif %}"),
        ("", "{%if a%}", ""),
        ("", "{%for a in a%}", ""),
        ("{{ a", "(a", ")"),
        ("{{ ", "[", ""),
        ("{{ ", "{1:", ""),
        ("{% set a", ".a", " = 1 %}"),
    ] {
        // Also on the stack of this thread, where it is dropped.
        let template = ChatTemplate::new(fill(before, repeated, after, most), "t.jinja");
        let rendered = template.and_then(|template| template.render(&[Message::new("user", "")]));
        if let Err(error) = rendered {
            assert!(error.to_string().starts_with("t.jinja: chat template"), "{error}");
        }
        let error = ChatTemplate::new(fill(before, repeated, after, most * 10), "t.jinja").expect_err("too large");
        assert!(error.to_string().contains("bytes; expected at most 65536"), "{error}");
    }
}

/// Variables that hold each other, or themselves many times, would overflow the stack, fill the memory or take for ever.
#[test]
fn what_variables_hold_is_bounded() {
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% for j in range(10) %}{% set ns.x = [ns.x] %}\
                {% endfor %}{% endfor %}{{ ns.x }}";
    let cycle = "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = b %}{% set b.x = a %}{{ a == b }}";
    let hidden =
        "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = [{'b': b}] %}{% set b.x = [a] %}{{ a == b }}";
    let filtered = "{% set a = namespace() %}{% set b = namespace() %}{% set a.x | default(b, true) %}{% endset %}\
                    {% set b.x | default(a, true) %}{% endset %}{{ a == b }}";
    let grown = |growth: &str, used: &str| {
        format!(
            "{{% set ns = namespace(x=[1], y=[1]) %}}{{% for i in range(60) %}}{{% set ns.x = {growth} %}}{{% set ns.y = {} %}}\
                 {{% endfor %}}{{{{ {used} }}}}",
            growth.replace("ns.x", "ns.y")
        )
    };
    let nested = ["{% for a in [a, a] %}".repeat(40), "{{ a ~ '' }}".to_owned(), "{% endfor %}".repeat(40)].concat();
    let macros = "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x ~ '' }}{% endif %}{% endmacro %}{{ f(1, 30) }}";
    let with = ["{% with b = [b, b] %}".repeat(40), "{{ b ~ '' }}".to_owned(), "{% endwith %}".repeat(40)].concat();
    let slices = format!(
        "{{% set ns = namespace(x=[1]) %}}{{% for i in range(5000) %}}{{% set ns.x = ns.x{} %}}{{% endfor %}}{{{{ ns.x | length }}}}",
        "[:]".repeat(60)
    );
    for source in [
        deep,
        &deep.replace("{{ ns.x }}", ""),
        &deep.replace("{{ ns.x }}", "{{ ns.x | tojson }}"),
        cycle,
        hidden,
        filtered,
        &grown("ns.x + ns.x", "ns.x | length"),
        &grown("[ns.x, ns.x]", "ns.x == ns.y"),
        &grown("{'a': ns.x, 'b': ns.x}", "ns.x ~ ''"),
        &grown("dict(a=ns.x, b=ns.x)", "ns.x | string | length"),
        &grown("(ns.x * 1000) | batch(1000)", "[ns.x, ns.y] | unique"),
        &"{% set a = a + a %}".repeat(60).replace("a + a", "(a or [1]) + (a or [1])"),
        &nested,
        macros,
        &with,
        &slices,
        "{{ (['a' * 1000] * 100000000) ~ '' }}",
        "{{ 1000 * ['a'] }}",
        "{{ messages[0].content | list * 2 }}",
        "{{ (range(1000) | map(attribute='m', default=range(1000) | map(attribute='m', default=range(1000) | list) | list) | list) ~ '' }}",
        "{{ range(1000) | map(attribute='m', default=range(1000) | map(attribute='m', default=range(1000) | list) | list) | string | length }}",
        "{{ '{:>3999999999}'.format('a') }}",
        "{{ '{0}{0}{0}{0}{0}{0}{0}{0}{0}'.format('a' * 10000000) }}",
        "{{ '%3999999999s' | format('a') }}",
        "{{ 'a'.center(3999999999) }}",
        "{{ ''.join(['a' * 1000000] * 100000) }}",
        "{{ ([['a'] * 10000] * 10000) | tojson }}",
        "{{ [['a'] * 10000] * 10000 }}",
    ] {
        let template = ChatTemplate::new(source, "t.jinja").expect(source);
        let error = template.render(&[Message::new("user", "hello")]).expect_err(source).to_string();
        assert!(error.starts_with("t.jinja: chat template"), "{error}");
    }
}

#[test]
fn json_and_methods_are_those_of_python() {
    for (source, expected) in [
        ("{{ {'b': [1, 2.5, none], 'a': {}} | tojson }}", "{\"b\": [1, 2.5, null], \"a\": {}}"),
        ("{{ {'b': 1, 'a': [true]} | tojson(separators=(',', ':'), sort_keys=true) }}", "{\"a\":[true],\"b\":1}"),
        ("{{ [1, {'a': 2}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": 2\n  }\n]"),
        (
            "{{ [[], 'é\\u0007\u{1f600}'] | tojson(indent=none, ensure_ascii=true) }}",
            "[[], \"\\u00e9\\u0007\\ud83d\\ude00\"]",
        ),
        ("{{ ['é', '<'] | tojson(separators=none) }}", "[\"é\", \"<\"]"),
        (
            "{{ [1e16, 1e-5, 0.1, 1.0, 123456789012345678901234567890] | tojson }}",
            "[1e+16, 1e-05, 0.1, 1.0, 123456789012345678901234567890]",
        ),
        ("{{ {1: 2, none: 3, false: 4} | tojson }}", "{\"1\": 2, \"null\": 3, \"false\": 4}"),
        (
            "{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b  c '.rsplit() }}{{ 'a b c'.rsplit(none, 1) }}",
            "['a,b', 'c']['a', 'b', 'c']['a b', 'c']",
        ),
        (
            "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'a'.partition('=') }}{{ 'a'.rpartition('=') }}",
            "('a', '=', 'b=c')('a=b', '=', 'c')('a', '', '')('', '', 'a')",
        ),
        (
            "{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6, '*') }}{{ 'a'.ljust(3) }}{{ 'a'.rjust(3) }}{{ '-5'.zfill(4) }}",
            "**ab**abc**a    a-005",
        ),
        (
            "{{ 'aB'.swapcase() }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ ', '.join(['a', 'b']) }}",
            "Abbcaba, b",
        ),
        ("{{ 'a b_1, c' | wordcount }}{{ '{:>3}|{}'.format('a', 1) }}", "3  a|1"),
    ] {
        let template = ChatTemplate::new(source, "t.jinja").expect("a template");
        assert_eq!(template.render(&[]).expect(source), expected, "{source}");
    }
    for source in [
        "{{ undefined_name | tojson }}",
        "{{ {[1]: 2} | tojson }}",
        "{{ 1 | tojson(separators=',') }}",
        "{{ 1 | tojson(cls=1) }}",
        "{{ ','.join([1]) }}",
        "{{ 'a'.partition('') }}",
    ] {
        assert!(ChatTemplate::new(source, "t.jinja").expect("a template").render(&[]).is_err(), "{source}");
    }
}

/// What the bounds let through: a list as it is used for messages, and a namespace in another variable.
#[test]
fn variables_work_as_before() {
    for (source, expected) in [
        (
            "{% set ns = namespace(found=false, names=[]) %}{% for m in messages %}{% set ns.names = ns.names + [m.role] %}\
          {% set ns.found = true %}{% endfor %}{{ ns.found }}{{ ns.names }}",
            "True['user', 'user']",
        ),
        (
            "{% set rest = messages[1:] %}{% for m in rest %}{{ loop.index }}{{ loop.last }}{{ m.content }}{{ rest[loop.index0].role }}{% endfor %}",
            "1Truebuser",
        ),
        (
            "{{ 2 * 3 ** 2 }}{{ -2 * messages | length }}{{ 'ab' * 2 ~ 'c' | upper }}{{ 3 * 'a' }}{{ 7 // 2 * 2 }}",
            "18-4ababCaaa6",
        ),
        (
            "{{ 'a' in messages[0].content }}{{ 'a' not in ['b'] }}{{ messages[0]['role'] == 'user' and not messages is string }}",
            "TrueTrueTrue",
        ),
        (
            "{{ x is defined }}{{ x is none == false }}{{ messages[0].x is not defined }}{{ 1 < 2 <= 2 }}{{ {'a': 1 ~ 2}['a'] }}",
            "FalseTrueTrueTrue12",
        ),
        (
            "{{ 'a' ~ (x if x is defined else 'b') ~ 'c' if true else 'd' }}{{ dict(**{'a': 1}) }}{{ range(*[2]) | list }}",
            "abc{'a': 1}[0, 1]",
        ),
        ("{% set ns = namespace(i=0) %}{% set other = ns %}{% set other.i = 5 %}{{ ns.i }}", "5"),
        (
            "{% macro f(x, y=2) -%}\n {{ x }}{{ y }}{{ z is defined }}{% endmacro %}{{ f(1) }}{{ f(x=[3], y=4) }}",
            "12False[3]4False",
        ),
        ("{% set x, y = 1, 'a' %}{{ x }}{{ y }}{% set t = 1, 2 %}{{ t }}{% set u %}b{% endset %}{{ u }}", "1a(1, 2)b"),
        (
            "{% for k, v in {'a': 1}.items() if v %}{{ k }}{{ v }}{% else %}none{% endfor %}{% for a in [] %}{% else %}none{% endfor %}",
            "a1none",
        ),
        ("{% for a in [[1], 2] recursive %}{{ loop(a) if a is sequence else a }}{% endfor %}", "12"),
        (
            "{% with a = 1, b = [2] %}{{ a }}{{ b }}{% endwith %}{% macro m() %}{{ caller(3) }}{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}",
            "1[2]3",
        ),
    ] {
        let template = ChatTemplate::new(source, "t.jinja").expect(source);
        assert_eq!(template.render(&[Message::new("user", "a"), Message::new("user", "b")]).expect(source), expected);
    }
}

/// Each of the refused ones makes the library panic.
#[test]
fn the_fields_of_a_format_are_ascii() {
    let rendered = |source: &str| ChatTemplate::new(source, "t.jinja").expect(source).render(&[]);
    assert_eq!(rendered("{{ 'ä{{ö}}{:>3}ü'.format('a') }}").expect("written"), "ä{ö}  aü");
    for format in ["{é}", "{:>9{é}}", "{a[é]}", "{a[}é]}", "{:{b[é}]}}", "{é", "{{{é}"] {
        let message = rendered(&format!("{{{{ '{format}'.format('a') }}}}")).expect_err(format).to_string();
        assert!(message.contains("a field has the character 'é'; expected ASCII"), "{format}: {message}");
    }
}
