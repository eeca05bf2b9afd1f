//! `bitnet run` with text: the chat template, the end of a text, and what is printed while it runs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bitnet_models::checkpoint::gguf::{Array, Value, writer};
use serde_json::{Value as Json, json};

/// Special tokens of [`checkpoint`], behind the ids of the bytes.
const SPECIAL: [(&str, u32); 3] = [("<|begin_of_text|>", 128), ("<|end_of_text|>", 129), ("<|eot_id|>", 130)];

const TEMPLATE: &str = "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}\
                        {% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// A token for each byte of ASCII, as byte-level tokenizers write it.
fn byte_tokens() -> impl Iterator<Item = String> {
    let mut shifted = 256..;
    (0..128u8).map(move |byte| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => shifted.next().and_then(char::from_u32).expect("a character").to_string(),
    })
}

/// The reference's tiny checkpoint with a tokenizer: a token for each byte of ASCII, by its number, and [`SPECIAL`].
fn checkpoint() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf-bitnet-tiny/offline_float32");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture.join(file), directory.path().join(file)).expect("copied");
    }
    let vocab: serde_json::Map<_, _> = byte_tokens().zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let added = SPECIAL.map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": true})
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let begin = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": SPECIAL[0].0, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
        "special_tokens": {SPECIAL[0].0: {"id": SPECIAL[0].0, "ids": [SPECIAL[0].1], "tokens": [SPECIAL[0].0]}}});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": begin, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    write(directory.path(), "tokenizer.json", &tokenizer);
    directory
}

fn write(directory: &Path, file: &str, value: &Json) {
    fs::write(directory.join(file), value.to_string()).expect("written");
}

fn bitnet(model: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.arg("run").arg("--model").arg(model).args(arguments).env_remove("BITNET_TRACE_DIR");
    command
}

fn json_of(model: &Path, arguments: &[&str]) -> Json {
    let output = bitnet(model, arguments).arg("--json").output().expect("bitnet starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn refused(model: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = bitnet(model, arguments).output().expect("bitnet starts");
    let message = String::from_utf8(stderr).expect("UTF-8");
    assert!(!status.success() && stdout.is_empty() && !message.contains("panicked"), "{message}");
    message
}

fn ids(text: &str) -> Vec<u64> {
    text.bytes().map(u64::from).collect()
}

#[test]
fn a_prompt_gets_the_begin_token_and_a_chat_that_of_its_template() {
    let model = checkpoint();
    let model = model.path();
    let plain = json_of(model, &["--prompt", "Hi"]);
    assert_eq!(plain["prompt_tokens"], json!([vec![128], ids("Hi")].concat()));

    write(model, "tokenizer_config.json", &json!({"chat_template": TEMPLATE, "bos_token": "<|begin_of_text|>"}));
    let chat = json_of(model, &["--chat", "--system", "Be terse.", "--prompt", " Hi\n"]);
    assert_eq!(chat["prompt"], "System: Be terse.<|eot_id|>User: Hi<|eot_id|>Assistant: ");
    let expected = [ids("System: Be terse."), vec![130], ids("User: Hi"), vec![130], ids("Assistant: ")].concat();
    assert_eq!(chat["prompt_tokens"], json!(expected));

    // Named ones, and a token with its properties.
    let named = json!([{"name": "rag", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}]);
    write(
        model,
        "tokenizer_config.json",
        &json!({"chat_template": named, "bos_token": {"content": "<|begin_of_text|>"}}),
    );
    assert_eq!(json_of(model, &["--chat", "--prompt", "Hi"])["prompt_tokens"], plain["prompt_tokens"]);

    // The file goes before, and the argument before that.
    fs::write(model.join("chat_template.jinja"), "file {{ messages[0].content }}").expect("written");
    assert_eq!(json_of(model, &["--chat", "--prompt", "Hi"])["prompt"], "file Hi");
    let other = model.join("other.jinja");
    fs::write(&other, "{{ bos_token }}other {{ messages | length }}").expect("written");
    let other = other.to_str().expect("UTF-8");
    let chat = json_of(model, &["--chat", "--prompt", "Hi", "--chat-template", other]);
    assert_eq!(chat["prompt"], "<|begin_of_text|>other 1");
}

#[test]
fn a_chat_without_a_template_or_with_a_broken_one() {
    let model = checkpoint();
    let model = model.path();
    let chat = ["--chat", "--prompt", "Hi"];
    let config = model.join("tokenizer_config.json");
    let message = refused(model, &chat);
    assert!(
        message.contains(config.to_str().expect("UTF-8")) && message.contains("there is no chat template"),
        "{message}"
    );
    write(model, "tokenizer_config.json", &json!({"chat_template": [{"name": "rag", "template": ""}]}));
    assert!(refused(model, &chat).contains("none of the chat templates [\"rag\"] is named \"default\""));
    write(model, "tokenizer_config.json", &json!({"chat_template": 7}));
    assert!(refused(model, &chat).contains("`chat_template`: expected a text"));
    let file = model.join("chat_template.jinja");
    let place = format!("{}: chat template, line 2: ", file.display());
    fs::write(&file, "a\n{{ raise_exception('No ' ~ messages[0].role) }}").expect("written");
    let message = refused(model, &chat);
    // The file is read after the configuration, for its tokens.
    write(model, "tokenizer_config.json", &json!({}));
    assert!(
        message.contains("`chat_template`") && refused(model, &chat).contains(&format!("{place}No user")),
        "{message}"
    );
    fs::write(&file, "a\n{% for %}").expect("written");
    assert!(refused(model, &chat).contains(&place));
    fs::write(&file, b"\xFF").expect("written");
    assert!(refused(model, &chat).contains("not UTF-8"));
    assert!(
        refused(model, &["--chat", "--prompt", "Hi", "--chat-template", "no/such.jinja"]).contains("no/such.jinja")
    );
    assert!(refused(model, &["--system", "x", "--prompt", "Hi"]).contains("--chat"));
    assert!(refused(model, &["--chat", "--tokens", "1"]).contains("--chat"));
}

/// The token that ends a text is the last of the tokens, and not in the text.
#[test]
fn a_text_ends_at_the_end_tokens_of_all_files() {
    let model = checkpoint();
    let model = model.path();
    let arguments = ["--tokens", "1,17,200", "--max-new-tokens", "8", "--temperature", "9"];
    let all = json_of(model, &[&arguments[..], &["--ignore-eos"]].concat());
    let all: Vec<u64> = all["tokens"].as_array().expect("a list").iter().filter_map(Json::as_u64).collect();
    // The first token that no earlier one is equal to ends the text behind it.
    let at = (1..all.len()).find(|at| !all[..*at].contains(&all[*at])).expect("two different tokens");
    let expected = json!(all[..=at]);

    for ends in [json!(all[at]), json!([255, all[at]])] {
        write(model, "generation_config.json", &json!({"eos_token_id": ends}));
        assert_eq!(json_of(model, &arguments)["tokens"], expected);
    }
    let ignored = json_of(model, &[&arguments[..], &["--ignore-eos"]].concat());
    assert_eq!(ignored["tokens"].as_array().map(Vec::len), Some(8));
    write(model, "generation_config.json", &json!({"eos_token_id": "x"}));
    let message = refused(model, &arguments);
    assert!(message.contains("generation_config.json") && message.contains("expected an id or a list"), "{message}");
    fs::remove_file(model.join("generation_config.json")).expect("removed");

    // By its name in the vocabulary.
    let file = model.join("tokenizer.json");
    let tokenizer = fs::read_to_string(&file).expect("the tokenizer");
    let mut tokenizer: Json = serde_json::from_str(&tokenizer).expect("JSON");
    let token = |id: u64, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true})
    };
    let vocab = tokenizer["model"]["vocab"].as_object_mut().expect("tokens");
    vocab.retain(|_, id| id.as_u64() != Some(all[at]));
    vocab.insert("<|eot_id|>".to_owned(), json!(all[at]));
    tokenizer["added_tokens"] = json!([token(all[at], "<|eot_id|>")]);
    tokenizer["post_processor"] = Json::Null;
    write(model, "tokenizer.json", &tokenizer);
    let ended = json_of(model, &arguments);
    assert_eq!(ended["tokens"], expected);
    assert!(!ended["text"].as_str().expect("a text").contains("<|eot_id|>"));
}

#[test]
fn a_stop_text_ends_the_text_before_it() {
    let embedded = Path::new("embedded");
    let stop = |text: &str| bitnet(embedded, &["--prompt", "12+34=", "--stop", text]).output().expect("bitnet starts");
    assert_eq!(stop("6").stdout, b"4\n");
    assert_eq!(stop("46").stdout, b"\n");
    assert_eq!(stop("47").stdout, b"46\n");
    assert!(!stop("").status.success());
    let json = json_of(embedded, &["--prompt", "12+34=", "--stop", "x", "--stop", "6"]);
    assert_eq!((&json["text"], json["tokens"].as_array().map(Vec::len)), (&json!("4"), Some(2)));
}

/// Token ids need no tokenizer, not even where there is a broken one.
#[test]
fn a_broken_tokenizer_is_no_error_for_token_ids() {
    let model = checkpoint();
    fs::write(model.path().join("tokenizer.json"), "{}").expect("written");
    let output = bitnet(model.path(), &["--tokens", "1,17", "--max-new-tokens", "2"]).output().expect("bitnet starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with("warning: ") && said.contains("tokenizer.json: not a tokenizer"), "{said}");
    assert!(refused(model.path(), &["--prompt", "Hi"]).contains("tokenizer.json: not a tokenizer"));
}

/// A GGUF without a vocabulary takes the tokenizer beside it.
#[test]
fn a_gguf_without_a_vocabulary_needs_a_tokenizer_beside_it() {
    let model = checkpoint();
    let tokenizer = model.path().join("tokenizer.json");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = synthetic_gguf(directory.path());
    let beside = directory.path().join("tokenizer.json");
    let message = refused(&file, &["--prompt", "Hi"]);
    assert!(message.contains(&format!("{}: the file does not exist", beside.display())), "{message}");
    assert!(bitnet(&file, &["--tokens", "1,2"]).output().expect("bitnet starts").status.success());
    fs::copy(tokenizer, &beside).expect("copied");
    assert_eq!(json_of(&file, &["--prompt", "Hi"])["prompt_tokens"], json!([vec![128], ids("Hi")].concat()));
}

/// A random GGUF without a vocabulary, of 320 tokens; token 1 begins a text.
fn synthetic_gguf(directory: &Path) -> PathBuf {
    let file = directory.join("tiny.gguf");
    let mut synth = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    let output = synth.args(["synth", "--shape", "tiny", "--format", "tq2_0", "--seed", "1"]).arg(&file).output();
    let output = output.expect("bitnet starts");
    assert!(output.status.success(), "{output:?}");
    file
}

/// Gives [`synthetic_gguf`] the vocabulary of [`checkpoint`], the rest of its tokens numbers in brackets, and a template.
fn add_vocabulary(file: &Path) {
    let mut tokens: Vec<_> = byte_tokens().chain(SPECIAL.map(|(content, _)| content.to_owned())).collect();
    let mut types = vec![1; 320];
    types[128..tokens.len()].fill(3);
    tokens.extend((tokens.len()..320).map(|id| format!("[{id}]")));
    let strings = |strings| Value::Array(Array::String(strings));
    let metadata = |filling: usize| {
        [
            ("tokenizer.ggml.pre", Value::String("llama-bpe".to_owned())),
            ("tokenizer.ggml.tokens", strings(tokens.clone())),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(types.clone()))),
            ("tokenizer.ggml.merges", strings(Vec::new())),
            ("tokenizer.chat_template", Value::String(TEMPLATE.to_owned())),
            ("filling", Value::String("x".repeat(filling))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    };
    // The pairs are 32 bytes or a multiple longer, so that the data stays aligned; a head has 24 bytes before them.
    let pairs = (0..32)
        .find_map(|filling| {
            let head = writer::head(&metadata(filling), &[]).expect("no tensors");
            let end = head.iter().rposition(|byte| *byte != 0)? + 1;
            (end - 24).is_multiple_of(32).then(|| head[24..end].to_vec())
        })
        .expect("a length");
    let mut bytes = fs::read(file).expect("the file");
    let count = u64::from_le_bytes(*bytes[16..].first_chunk().expect("a head")) + metadata(0).len() as u64;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    let key = b"tokenizer.ggml.model";
    let model = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 12;
    assert_eq!(&bytes[model..model + 4], b"none");
    bytes[model..model + 4].copy_from_slice(b"gpt2");
    bytes.splice(24..24, pairs);
    fs::write(file, bytes).expect("written");
}

#[test]
fn a_gguf_brings_its_vocabulary_and_its_template() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = synthetic_gguf(directory.path());
    let tokens = json_of(&file, &["--tokens", "1,72,105", "--ignore-eos"]);
    add_vocabulary(&file);
    let text = json_of(&file, &["--prompt", "Hi", "--ignore-eos"]);
    assert_eq!(text["prompt_tokens"], json!([1, 72, 105]));
    assert_eq!(text["tokens"], tokens["tokens"]);
    let generated = text["tokens"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id"));
    let expected: String = generated
        .filter(|id| !(128..131).contains(id))
        .map(|id| if id < 128 { char::from(u8::try_from(id).expect("a byte")).to_string() } else { format!("[{id}]") })
        .collect();
    assert_eq!(text["text"], expected);

    let chat = json_of(&file, &["--chat", "--prompt", "Hi"]);
    assert_eq!(chat["prompt"], "User: Hi<|eot_id|>Assistant: ");
    assert_eq!(chat["prompt_tokens"], json!([ids("User: Hi"), vec![130], ids("Assistant: ")].concat()));
}

/// A model with so long a context that a run ends only where it is made to.
fn endless() -> tempfile::TempDir {
    let model = checkpoint();
    let file = model.path().join("config.json");
    let config = fs::read_to_string(&file).expect("the configuration");
    let long = config.replace("\"max_position_embeddings\": 128", "\"max_position_embeddings\": 1000000");
    assert_ne!(long, config);
    fs::write(&file, long).expect("written");
    model
}

const ENDLESS: [&str; 5] = ["--tokens", "1,17,200", "--ignore-eos", "--max-new-tokens", "1000000"];

/// What was printed before the run ended shows that it is not printed at the end.
#[cfg(unix)]
#[test]
fn tokens_are_printed_as_they_come_and_ctrl_c_leaves_a_whole_trace() {
    let (model, trace) = (endless(), tempfile::tempdir().expect("a temporary directory"));
    let mut command = bitnet(model.path(), &ENDLESS);
    command.arg("--trace-dir").arg(trace.path());
    command.env("BITNET_TRACE_FORMAT", "jsonl").env("BITNET_TRACE_FILTER", "stage=logits");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bitnet starts");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = [0; 8];
    out.read_exact(&mut first).expect("the first tokens");
    assert!(first.contains(&b','), "{first:?}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(killed.success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("UTF-8");
    let output = child.wait_with_output().expect("bitnet ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(rest.contains('\n'), "{rest}");
    whole_trace(trace.path());
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let (model, trace) = (endless(), tempfile::tempdir().expect("a temporary directory"));
    let mut command = bitnet(model.path(), &ENDLESS);
    if cfg!(feature = "trace") {
        command.arg("--trace-dir").arg(trace.path());
        command.env("BITNET_TRACE_FORMAT", "jsonl").env("BITNET_TRACE_FILTER", "stage=logits");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bitnet starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("bitnet ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    whole_trace(trace.path());
}

#[cfg(feature = "trace")]
fn whole_trace(directory: &Path) {
    let run = fs::read(directory.join("run.json")).expect("run.json");
    let run: Json = serde_json::from_slice(&run).expect("JSON");
    let generated = run["annotations"]["generated_tokens"].as_array().map(Vec::len).expect("the tokens");
    assert_eq!(run["complete"], true);
    // The last token is not computed.
    let records = bitnet_trace::Trace::open(directory).expect("a trace").records().len();
    assert_eq!(records, generated);
}

#[cfg(not(feature = "trace"))]
fn whole_trace(_: &Path) {}

#[cfg(feature = "trace")]
#[test]
fn a_trace_names_the_messages_and_the_rendered_prompt() {
    let (model, trace) = (checkpoint(), tempfile::tempdir().expect("a temporary directory"));
    write(model.path(), "tokenizer_config.json", &json!({"chat_template": TEMPLATE}));
    let mut command = bitnet(model.path(), &["--chat", "--system", "Be terse.", "--prompt", "Hi"]);
    let output = command.arg("--trace-dir").arg(trace.path()).output().expect("bitnet starts");
    assert!(output.status.success(), "{output:?}");
    let run: Json = serde_json::from_slice(&fs::read(trace.path().join("run.json")).expect("run.json")).expect("JSON");
    let facts = &run["annotations"];
    assert_eq!(facts["chat"], json!([["system", "Be terse."], ["user", "Hi"]]));
    assert_eq!(facts["prompt"], "System: Be terse.<|eot_id|>User: Hi<|eot_id|>Assistant: ");
    assert_eq!(facts["prompt_tokens"].as_array().map(Vec::len), Some("System: Be terse.User: HiAssistant: ".len() + 2));
}

/// A GGUF names its own end tokens; what is beside it belongs to another checkpoint.
#[test]
fn generation_config_is_read_for_a_directory_only_and_may_name_no_token() {
    let model = checkpoint();
    let arguments = ["--tokens", "1,17,200", "--max-new-tokens", "4"];
    let expected = json_of(model.path(), &arguments);
    for none in [json!(-1), json!(null), json!([-1])] {
        write(model.path(), "generation_config.json", &json!({"eos_token_id": none}));
        assert_eq!(json_of(model.path(), &arguments)["tokens"], expected["tokens"]);
    }

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = synthetic_gguf(directory.path());
    let expected = json_of(&file, &arguments);
    write(directory.path(), "generation_config.json", &json!({"eos_token_id": expected["tokens"][0]}));
    assert_eq!(json_of(&file, &arguments)["tokens"], expected["tokens"]);
    write(directory.path(), "generation_config.json", &json!({"eos_token_id": "x"}));
    assert_eq!(json_of(&file, &arguments)["tokens"], expected["tokens"]);
}

#[test]
fn a_stop_text_needs_a_tokenizer() {
    let sum = ["--tokens", "1,2,10,3,4,11", "--stop", "6"];
    let output = bitnet(Path::new("embedded"), &sum).output().expect("bitnet starts");
    assert_eq!(output.stdout, b"4,6\n");
    let model = checkpoint();
    let arguments = ["--tokens", "1,17", "--stop", "x"];
    fs::write(model.path().join("tokenizer.json"), "{}").expect("written");
    assert!(refused(model.path(), &arguments).contains("--stop needs a tokenizer"));
    fs::remove_file(model.path().join("tokenizer.json")).expect("removed");
    assert!(refused(model.path(), &arguments).contains("--stop needs a tokenizer"));
}

#[cfg(unix)]
#[test]
fn a_warning_does_not_reach_the_terminal_as_it_is_in_a_file() {
    let model = checkpoint();
    let named = model.path().join("a\u{1b}[31mb");
    fs::create_dir(&named).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        fs::rename(model.path().join(file), named.join(file)).expect("moved");
    }
    fs::write(named.join("tokenizer.json"), "{}").expect("written");
    let mut command = bitnet(&named, &["--tokens", "1,17", "--max-new-tokens", "2"]);
    if cfg!(feature = "trace") {
        command.arg("--trace-dir").arg(named.join("tokenizer.json"));
    }
    let output = command.output().expect("bitnet starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(said.matches("warning: ").count(), if cfg!(feature = "trace") { 2 } else { 1 }, "{said}");
    assert!(!said.contains('\u{1b}') && said.contains("a\\u{1b}[31mb"), "{said}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_or_a_link_to_nowhere_is_said_so() {
    let (model, tokenizer) = (checkpoint(), checkpoint());
    let model = model.path();
    let message = refused(model, &["--chat", "--prompt", "Hi", "--chat-template", "/dev/zero"]);
    assert!(message.contains("/dev/zero: expected a regular file"), "{message}");
    let large = model.join("large.jinja");
    fs::write(&large, "x".repeat(100_000)).expect("written");
    let message = refused(model, &["--chat", "--prompt", "Hi", "--chat-template", large.to_str().expect("UTF-8")]);
    assert!(message.contains("large.jinja: 100000 bytes; expected at most 65536"), "{message}");

    fs::remove_file(model.join("tokenizer.json")).expect("removed");
    for (file, arguments) in [
        ("chat_template.jinja", &["--chat", "--prompt", "Hi"][..]),
        ("tokenizer_config.json", &["--chat", "--prompt", "Hi"]),
        ("generation_config.json", &["--tokens", "1,17"]),
        ("tokenizer.json", &["--prompt", "Hi"]),
    ] {
        std::os::unix::fs::symlink(model.join("nowhere"), model.join(file)).expect("linked");
        // The tokenizer is read before the template, which is not reached without one.
        if file != "tokenizer.json" && arguments.contains(&"--prompt") {
            fs::copy(tokenizer.path().join("tokenizer.json"), model.join("tokenizer.json")).expect("copied");
        }
        let message = refused(model, arguments);
        assert!(message.contains(&format!("{file}: a symbolic link to ")), "{message}");
        let _ = fs::remove_file(model.join("tokenizer.json"));
        let _ = fs::remove_file(model.join(file));
    }
    std::os::unix::fs::symlink(model.join("nowhere"), model.join("tokenizer.json")).expect("linked");
    let output = bitnet(model, &["--tokens", "1,17"]).output().expect("bitnet starts");
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stderr).contains("tokenizer.json: a symbolic link")
    );
}

/// Each of these would overflow the stack, fill the memory or not end.
#[test]
fn a_hostile_template_is_refused() {
    let model = checkpoint();
    let file = model.path().join("chat_template.jinja");
    for template in [
        format!("{{{{ 1{} }}}}", "+1".repeat(30_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(300_000)),
        format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(300_000)),
        "{% set ns = namespace(x=[]) %}{% for i in range(10000) %}{% for j in range(10) %}{% set ns.x = [ns.x] %}{% endfor %}\
         {% endfor %}{{ ns.x }}"
            .to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}".to_owned(),
        "{{ \"{:>3999999999}\".format(\"a\") }}".to_owned(),
    ] {
        fs::write(&file, template).expect("written");
        let message = refused(model.path(), &["--chat", "--prompt", "Hi"]);
        assert!(message.contains("chat_template.jinja: chat template, line 1: ") || message.contains("bytes; expected at most"), "{message}");
    }
}
