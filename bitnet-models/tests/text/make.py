#!/usr/bin/env python3
"""A small vocabulary in the manner of Llama 3, and what others make of it: the reference for the tests of text.

    pip install -r requirements.txt
    python make.py

It writes beside this file:

    tokenizer.json     a byte-level BPE with the split, the special tokens and the begin token of Llama 3
    vocabulary.gguf    the same as metadata of a GGUF, by the package `gguf`
    encodings.json     texts and their ids, and ids and their text, by the package `tokenizers`
    chats.json         chat templates, messages, and the prompt or the refusal of transformers' `apply_chat_template`
"""

import itertools
import json
import random
from pathlib import Path

from gguf import GGUFWriter, TokenType
from jinja2.exceptions import TemplateError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BEGIN, END, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
SPECIAL = [BEGIN, END, "<|reserved|>", "<|start_header_id|>", "<|end_header_id|>", TURN]
CORPUS = """
The tracer records every tensor of a run, and the first one that differs from another run is what you look for.
It's a ternary model: weights are -1, 0 or +1, and activations have 8 bits. We've measured 128256 tokens; they'll do.
Don't trust a comparison that read nothing. I'm sure you'd agree, and we're done.  Two spaces,\ttabs\n\nand new lines.
fn main() { let x = vec![1, 2, 3]; println!("{}", x.len()); }\r\nreturn 0;\n
Über die Straße geht ein Mädchen. L'été, où êtes-vous? Привет, мир! Γειά σου Κόσμε. 你好，世界。こんにちは世界 안녕하세요
"""
# What no merge leads to, but a word of the text may be: with `ignore_merges` it is one token.
WHOLE_WORDS = ["Ġxylophone", "quux", "Ġ안녕"]


def vocabulary():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=420, min_frequency=1, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([CORPUS], trainer)
    state = json.loads(tokenizer.to_str())
    for word in WHOLE_WORDS:
        state["model"]["vocab"][word] = len(state["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B",
                                      special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]),
    ])
    return tokenizer


def write_gguf(tokenizer, path):
    state = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    types = [TokenType.NORMAL] * size
    for token in state["added_tokens"]:
        types[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    writer = GGUFWriter(path, "bitnet-b1.58")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([tokenizer.id_to_token(id) for id in range(size)])
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id(BEGIN))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_chat_template(TEMPLATES["by role"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def texts():
    pieces = ["the tracer", " tensor", "It's", "WE'VE", "they'LL", " 'tis", "l'ſ", "ſ's", "don''t", "12", "3", "1234567", "٣٤٥",
              "½²", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n  ", " \n", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "...", "!?",
              "--\n", "é", "e\u0301", "ß", "Straße", "Привет", "世界", "你好，", "안녕", " 안녕", "🙂", "👩‍👩‍👧", "🇩🇪", "\u0000", "\u007f", "\ufeff",
              "\ufffd", "𝔘", " xylophone", "quux", " quux", "<|eot_id|>", "<|begin_of_text|>", "<|eot", "<tool>", " <tool>x",
              "<|reserved|>", "_", "a_b", "x=1;", "{}", "𒀀", "ﬀ", "İ"]
    yield ""
    yield CORPUS
    yield from pieces
    yield from ("".join(pair) for pair in itertools.islice(itertools.product(pieces, repeat=2), 0, None, 29))
    draw = random.Random(1)
    for _ in range(120):
        yield "".join(draw.choices(pieces, k=draw.randint(3, 7)))
    for _ in range(40):
        codes = [draw.choice([draw.randint(0, 0x7F), draw.randint(0, 0x7FF), draw.randint(0, 0xD7FF), draw.randint(0xE000, 0x10FFFF)])
                 for _ in range(draw.randint(1, 8))]
        yield "".join(map(chr, codes))


def encodings(tokenizer):
    encoded = [[text, tokenizer.encode(text).ids] for text in texts()]
    draw = random.Random(2)
    decoded = []
    for _ in range(120):
        # Mostly single bytes, which cut characters and make no UTF-8.
        ids = [draw.randrange(256) if draw.random() < 0.7 else draw.randrange(tokenizer.get_vocab_size())
               for _ in range(draw.randint(1, 12))]
        decoded.append([ids, tokenizer.decode(ids, skip_special_tokens=True)])
    return {"encode": encoded, "decode": decoded}


TEMPLATES = {
    # The form of BitNet b1.58 2B-4T: the role, what it says, and the end of the turn.
    "by role": "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
               "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    "by role, with a begin": "{% set turns = messages %}{% for message in turns %}"
                             "{% set text = message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' %}"
                             "{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
                             "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    # That of the GGUF of 2B-4T: no system message, an end token before the answer.
    "human": "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}"
             "{{ 'Human: ' + message['content'] + '\\n\\nAssistant: ' + eos_token }}{% elif message['role'] == 'assistant' %}"
             "{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
    # On lines of its own, with what Llama 3 and others use.
    "in blocks": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'].strip() %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
<|start_header_id|>system<|end_header_id|>

{% if tools is not none %}
has tools
{% endif %}
    {% if documents %}
    has documents
    {% endif %}
Today: {{ date_string }}
{{ system }}<|eot_id|>
{% for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {{- raise_exception('Unknown role: ' ~ message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{% endfor %}
{% if add_generation_prompt %}
<|start_header_id|>assistant<|end_header_id|>

{% endif %}
""",
    "methods": "{% set ns = namespace(seen=0, last='') %}{% for m in messages %}{% if m.content.startswith('#') %}{% continue %}{% endif %}"
               "{% set ns.seen = ns.seen + 1 %}{% set ns.last = m.get('content') %}"
               "{{ m['content'].split(' ')[0].upper() }}|{{ m.content.replace('a', '<b>') }}|{{ m | tojson }}|{{ m | tojson(indent=2) }}"
               "{% for key, value in m.items() %}{{ key }}={{ value[:3] }};{% endfor %}\n{% endfor %}"
               "{{ ns.seen }} {{ ns.last | length }} {{ undefined_name }}{{ messages | map(attribute='role') | join(', ') }}",
    "alternating": "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
                   "{{ raise_exception('Roles must alternate user and assistant') }}{% endif %}[{{ message['content'] }}]{% endfor %}",
}
CHATS = [
    [["user", "Hello"]],
    [["user", "  Why is the sky blue?\n"]],
    [["system", "You are terse."], ["user", "What's 1 + 1 < 3 & 'so'?"]],
    [["system", " Überlege \"gut\" 🙂 "], ["user", "Hi"], ["assistant", "# Hello \\ there"], ["user", "a\tb ünd\n\nc"]],
    [["user", ""]],
    [["tool", "x"]],
]


def chats(tokenizer):
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END)
    rendered = []
    for (name, template), chat in itertools.product(TEMPLATES.items(), CHATS):
        messages = [{"role": role, "content": content} for role, content in chat]
        case = {"template": name, "messages": chat}
        try:
            case["prompt"] = fast.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            case["refused"] = str(error)
        rendered.append(case)
    return {"bos_token": BEGIN, "eos_token": END, "templates": TEMPLATES, "chats": rendered}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


tokenizer = vocabulary()
(HERE / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
write_gguf(tokenizer, HERE / "vocabulary.gguf")
write("encodings.json", encodings(tokenizer))
write("chats.json", chats(tokenizer))
