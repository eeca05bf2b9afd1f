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
