"""The tokens of a run in its `run.json`, and annotations of the program."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from torch import nn

import bitnet_trace
from bitnet_trace import annotate, capture
from conftest import decode, make_llama

PROMPT = [1, 2, 3, 4, 5]
STEPS = 4


def annotations(recorded: Any) -> dict[str, Any]:
    """What `run.json` says, after the block."""
    assert recorded.lost is None
    return recorded.trace.manifest["annotations"]


def named(recorded: Any) -> tuple[Any, Any]:
    """The prompt and the generated tokens that `run.json` names."""
    found = annotations(recorded)
    return found.get("prompt_tokens"), found.get("generated_tokens")


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    """Gives one new directory after another."""
    numbers = itertools.count()
    return lambda: tmp_path / f"trace-{next(numbers)}"


@pytest.fixture
def expected(llama: Any) -> list[int]:
    """What the model generates."""
    tokens = decode(llama)[0, len(PROMPT) :].tolist()
    # A list that is shifted, cut or of one token would otherwise look the same.
    assert len(set(tokens)) > 1
    return tokens


@torch.no_grad()
def loop(
    model: Any,
    prompt: list[list[int]],
    steps: int,
    choose: Callable[[torch.Tensor], int] = lambda row: int(row.argmax()),
) -> list[int]:
    """Decodes without `generate`; the prompt in so many parts. Returns what was chosen."""
    cache, tokens = None, []
    for part in prompt:
        output = model(torch.tensor([part]), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
    for step in range(steps):
        tokens.append(choose(output.logits[0, -1]))
        if step + 1 < steps:
            output = model(torch.tensor([tokens[-1:]]), past_key_values=cache, use_cache=True)
    return tokens


@pytest.mark.parametrize("settings", [{}, {"return_dict_in_generate": True, "output_scores": True}])
@pytest.mark.parametrize("name", [None, "inputs", "input_ids"])
def test_generate_names_the_tokens(
    llama: Any, expected: list[int], settings: dict[str, Any], name: Any, place: Callable[[], Path]
) -> None:
    ids = torch.tensor([PROMPT])
    given = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0, **settings}
    with capture(llama, place()) as recorded:
        result = llama.generate(ids, **given) if name is None else llama.generate(**{name: ids}, **given)
    assert torch.equal(getattr(result, "sequences", result)[0], torch.tensor(PROMPT + expected))
    assert named(recorded) == (PROMPT, expected)


def test_a_trace_can_be_forced_on_another_model(
    llama: Any, expected: list[int], tmp_path: Path, place: Callable[[], Path]
) -> None:
    with capture(llama, tmp_path / "reference"):
        decode(llama)
    forced = bitnet_trace.force(tmp_path / "reference")
    assert forced.tokens == expected
    changed = make_llama()
    with torch.no_grad():
        changed.lm_head.weight *= -1
    with capture(changed, place()) as recorded:
        changed.generate(torch.tensor([PROMPT]), logits_processor=[forced], max_new_tokens=STEPS, pad_token_id=0)
    assert named(recorded) == (PROMPT, expected)
    assert annotations(recorded)["chosen_tokens"] == forced.chosen != expected


def test_a_loop_that_decodes_the_most_likely_token_names_all_of_them(
    llama: Any, expected: list[int], place: Callable[[], Path]
) -> None:
    with capture(llama, place()) as recorded:
        assert loop(llama, [PROMPT], STEPS) == expected
    # The last one was chosen and not read.
    assert named(recorded) == (PROMPT, expected)
    with capture(llama, place(), ops=True) as recorded:
        loop(llama, [PROMPT], STEPS)
    assert named(recorded) == (PROMPT, expected)
    # Of the loop itself, not of the package.
    assert sum(record.stage == "aten.argmax" for record in recorded.trace.records) == STEPS


def test_one_call_names_the_prompt_alone(llama: Any, place: Callable[[], Path]) -> None:
    with capture(llama, place()) as recorded, torch.no_grad():
        llama(torch.tensor([PROMPT]))
    assert named(recorded) == (PROMPT, None)
    assert "generated_tokens" not in annotations(recorded)


def test_a_model_of_the_program_is_followed_too(place: Callable[[], Path]) -> None:
    class Next(nn.Module):
        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
            return nn.functional.one_hot((tokens + 1) % 9, 9).float(), None

    model = Next().eval()
    with capture(model, place()) as recorded:
        for tokens in ([3, 4], [5], [6]):
            model(torch.tensor([tokens]))
    assert named(recorded) == ([3, 4], [5, 6, 7])


def generate(model: Any, ids: Any = (PROMPT,), **settings: Any) -> Any:
    given = {"max_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0, **settings}
    return model.generate(torch.tensor([*ids]), **given)


NOT_KNOWN: dict[str, Callable[[Any], Any]] = {
    "a batch": lambda model: generate(model, [PROMPT, PROMPT]),
    "a batch without generate": lambda model: model(torch.tensor([PROMPT, PROMPT])),
    "several results": lambda model: generate(model, do_sample=True, num_return_sequences=2),
    "beams, whose steps read other tokens": lambda model: generate(model, num_beams=2),
    "embeddings": lambda model: model.generate(
        inputs_embeds=model.get_input_embeddings()(torch.tensor([PROMPT])), max_new_tokens=STEPS, pad_token_id=0
    ),
    "embeddings without generate": lambda model: model(
        inputs_embeds=model.get_input_embeddings()(torch.tensor([PROMPT]))
    ),
    "two prompts": lambda model: (generate(model), generate(model)),
    "two prompts without generate": lambda model: (loop(model, [PROMPT], STEPS), loop(model, [PROMPT], STEPS)),
    "a call, then generate": lambda model: (model(torch.tensor([PROMPT])), generate(model)),
    "generate, then a call": lambda model: (generate(model), model(torch.tensor([[7]]))),
    "the least likely token": lambda model: loop(model, [PROMPT], STEPS, lambda row: int(row.argmin())),
    "a prompt in parts": lambda model: loop(model, [PROMPT[:3], PROMPT[3:]], STEPS),
    "a prompt token by token": lambda model: loop(model, [[token] for token in PROMPT], STEPS),
    "without a cache": lambda model: [model(torch.tensor([PROMPT + [7] * more]), use_cache=False) for more in range(3)],
}


@pytest.mark.parametrize("run", NOT_KNOWN.values(), ids=NOT_KNOWN.keys())
def test_tokens_that_are_not_those_of_one_sequence_are_not_named(
    llama: Any, run: Callable[[Any], Any], place: Callable[[], Path]
) -> None:
    with capture(llama, place()) as recorded, torch.no_grad():
        run(llama)
    assert recorded.trace.records
    assert named(recorded) == (None, None)


def test_a_prefill_before_the_block_is_not_guessed(llama: Any, place: Callable[[], Path]) -> None:
    with torch.no_grad():
        output = llama(torch.tensor([PROMPT]), use_cache=True)
        with capture(llama, place()) as recorded:
            llama(torch.tensor([[int(output.logits[0, -1].argmax())]]), past_key_values=output.past_key_values)
    assert named(recorded) == (None, None)


def test_training_names_no_tokens(llama: Any, place: Callable[[], Path]) -> None:
    with capture(llama, place(), backward=True) as recorded:
        llama(torch.tensor([PROMPT]), labels=torch.tensor([PROMPT])).loss.backward()
    assert named(recorded) == (None, None)


def test_generate_is_left_as_it_was(llama: Any, expected: list[int], place: Callable[[], Path]) -> None:
    kind = next(kind for kind in type(llama).__mro__ if "generate" in vars(kind))
    original = vars(kind)["generate"]
    first, second = capture(llama, place()), capture(llama, place())
    first.__enter__()
    second.__enter__()
    assert vars(kind)["generate"] is not original
    decode(llama)
    first.__exit__(None, None, None)
    assert vars(kind)["generate"] is not original
    second.__exit__(None, None, None)
    assert vars(kind)["generate"] is original
    assert named(first) == named(second) == (PROMPT, expected)

    def fail(*_: Any) -> None:
        message = "out of memory"
        raise RuntimeError(message)

    handle = llama.model.layers[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"), capture(llama, place()) as recorded:
        decode(llama)
    handle.remove()
    assert vars(kind)["generate"] is original
    assert named(recorded) == (PROMPT, None)
    with capture(llama, place()) as recorded:
        decode(llama)
    assert named(recorded) == (PROMPT, expected)


def test_another_model_of_the_same_class_is_not_followed(
    llama: Any, expected: list[int], place: Callable[[], Path]
) -> None:
    with capture(llama, place()) as recorded:
        decode(make_llama())
        assert pickle.loads(pickle.dumps(type(llama).generate)) is type(llama).generate
        decode(llama)
        make_llama()(torch.tensor([PROMPT]))
    assert named(recorded) == (PROMPT, expected)


def test_a_program_that_replaces_generate_keeps_its_own(llama: Any, place: Callable[[], Path]) -> None:
    class Own(type(llama)):  # type: ignore[misc]
        def generate(self, *_: Any, **__: Any) -> str:
            return "text"

    model = Own(llama.config).eval()
    with capture(model, place()) as recorded:
        assert model.generate(torch.tensor([PROMPT])) == "text"
        Own.generate = lambda *_: "another"
    assert Own(llama.config).generate() == "another"
    assert named(recorded) == (None, None)


def test_values_of_the_program_are_annotated(tmp_path: Path, place: Callable[[], Path]) -> None:
    model = nn.Sequential(nn.Identity())
    annotate("nowhere", 1)
    with capture(model, tmp_path / "outer") as outer:
        annotate("seed", 3)
        with capture(model, place()) as inner:
            annotate("nested", {"a": [1.5, None, "\u00e9"], "b": True})
        annotate("ids", torch.tensor([[1, 2]]))
        annotate("numbers", [np.float32(0.5), np.int64(7), np.arange(2)])
        annotate("seed", 4)
    assert annotations(inner)["nested"] == {"a": [1.5, None, "\u00e9"], "b": True}
    assert "seed" not in annotations(inner)
    assert {key: annotations(outer)[key] for key in ("seed", "ids", "numbers")} == {
        "seed": 4,
        "ids": [[1, 2]],
        "numbers": [0.5, 7, [0, 1]],
    }
    assert not {"nested", "nowhere"} & set(annotations(outer))


LIST: list[Any] = []
LIST.append(LIST)


@pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}.keys(), LIST, "\ud800", torch.ones(1, device="meta")])
def test_a_value_that_json_does_not_have_is_lost_with_its_key(
    value: Any, capfd: pytest.CaptureFixture[str], place: Callable[[], Path]
) -> None:
    with capture(nn.Sequential(nn.Identity()), place()) as recorded:
        annotate("the key", value)
        annotate("after", 1)
    [loss] = recorded.trace.manifest["losses"]
    assert (loss["cause"], loss["count"]) == ("cannot annotate a value", 1)
    assert "`the key`" in loss["first"]
    assert recorded.trace.manifest["annotations"]["after"] == 1
    assert "the key" not in recorded.trace.manifest["annotations"]
    assert "warning" in capfd.readouterr().err


def test_what_the_program_says_of_its_tokens_counts(llama: Any, expected: list[int], place: Callable[[], Path]) -> None:
    with capture(llama, place()) as recorded:
        annotate("prompt_tokens", [9])
        decode(llama)
    assert named(recorded) == ([9], expected)
    with capture(llama, place()) as recorded:
        decode(llama)
        annotate("generated_tokens", [8])
        decode(llama)
    assert named(recorded) == (None, [8])


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
import bitnet_trace
from conftest import decode, make_llama
bitnet_trace.annotate("early", 1)
torch.nn.Linear(2, 2)(torch.ones(1, 2))
model = make_llama()
for _ in range({times}):
    decode(model)
bitnet_trace.annotate("late", 2)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_program_that_is_not_edited_names_its_tokens(expected: list[int], tmp_path: Path, times: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), times=times))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BITNET_TRACE_")}
    command = [sys.executable, "-m", "bitnet_trace", "--dir", str(tmp_path / "t"), str(script)]
    subprocess.run(command, check=True, env=environment)
    said = json.loads((tmp_path / "t" / "run.json").read_text())
    assert (said["lost"], said["annotations"]["early"], said["annotations"]["late"]) == (0, 1, 2)
    tokens = said["annotations"]["prompt_tokens"], said["annotations"]["generated_tokens"]
    assert tokens == ((PROMPT, expected) if times == 1 else (None, None))
