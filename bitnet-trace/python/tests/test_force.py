"""The tokens of another run, decoded instead of the model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bitnet_trace
from bitnet_trace import capture, force
from conftest import VOCABULARY, make_llama

PROMPT = [1, 2, 3, 4, 5]


def reference(directory: Path, **annotations: Any) -> Path:
    directory.mkdir(exist_ok=True)
    run = {"schema": "bitnet-trace/run/1", "annotations": annotations}
    (directory / "run.json").write_text(json.dumps(run))
    return directory


def generate(model: Any, steps: int, **settings: Any) -> list[int]:
    with torch.no_grad():
        ids = model.generate(torch.tensor([PROMPT]), max_new_tokens=steps, pad_token_id=0, **settings)
    return ids[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("sampled", [False, True])
def test_the_tokens_of_the_reference_are_decoded(llama: Any, tmp_path: Path, sampled: bool) -> None:
    own = generate(llama, 6, do_sample=False, min_new_tokens=6)
    others = [own[0], (own[1] + 1) % VOCABULARY or 7, 9, 11, 13, 15]
    forced = force(reference(tmp_path / "r", prompt_tokens=PROMPT, generated_tokens=others))
    assert forced.tokens == others
    with capture(llama, tmp_path / "t") as recorded:
        assert generate(llama, 6, do_sample=sampled, logits_processor=[forced]) == others
    assert recorded.lost is None
    # Up to the first token that is another one, the model saw what it saw on its own.
    assert len(forced.chosen) == 6
    assert forced.chosen[:2] == own[:2]
    annotations = recorded.trace.manifest["annotations"]
    assert annotations["chosen_tokens"] == forced.chosen
    assert annotations["forced_from"].endswith("run.json")
    # It may be used again.
    assert generate(llama, 6, do_sample=False, logits_processor=[forced]) == others
    assert len(forced.chosen) == 6


def test_all_steps_of_a_changed_model_stay_comparable(llama: Any, tmp_path: Path) -> None:
    def run(name: str, model: Any, **settings: Any) -> tuple[list[int], Any]:
        with capture(model, tmp_path / name):
            tokens = generate(model, 6, do_sample=False, min_new_tokens=6, **settings)
        return tokens, tmp_path / name

    def steps_with_equal_embeddings(trace: Path) -> set[int]:
        pairs = bitnet_trace.diff(tmp_path / "mine", trace).pairs
        return {pair.seq for pair in pairs if pair.stage == "embeddings" and pair.verdict == "identical"}

    tokens, mine = run("mine", llama)
    changed = make_llama()
    with torch.no_grad():
        changed.model.layers[1].mlp.down_proj.weight *= -20
    free, trace = run("free", changed)
    assert free != tokens
    assert steps_with_equal_embeddings(trace) != set(range(6))
    named = reference(tmp_path / "named", prompt_tokens=PROMPT, generated_tokens=tokens)
    again, trace = run("forced", changed, logits_processor=[force(named)])
    assert again == tokens
    assert steps_with_equal_embeddings(trace) == set(range(6))
    assert mine.is_dir()


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({}, "names no tokens that it generated"),
        ({"generated_tokens": []}, "names no tokens that it generated"),
        ({"generated_tokens": "46"}, "expected a list of token ids"),
        ({"generated_tokens": [1, -2]}, "expected a token id at index 1, found -2"),
        ({"generated_tokens": [1], "prompt_tokens": [True]}, "expected a token id at index 0, found true"),
    ],
)
def test_a_trace_that_does_not_name_its_tokens_is_refused(
    tmp_path: Path, annotations: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        force(reference(tmp_path / "r", **annotations))


def test_no_trace_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.run\.json"):
        force(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        force(tmp_path)
    (tmp_path / "trace.jsonl").write_text("")
    with pytest.raises(ValueError, match="not JSON"):
        force(tmp_path / "trace.jsonl")


def test_what_cannot_be_decoded_is_refused(llama: Any, tmp_path: Path) -> None:
    for annotations, said in [
        ({"prompt_tokens": [1, 2], "generated_tokens": [3, 4]}, "had another prompt"),
        ({"prompt_tokens": [*PROMPT, 6], "generated_tokens": [3, 4]}, "had another prompt"),
        ({"generated_tokens": [3, VOCABULARY]}, f"expected an id below {VOCABULARY} at index 1, found {VOCABULARY}"),
        ({"generated_tokens": [3]}, "pass max_new_tokens=1"),
    ]:
        forced = force(reference(tmp_path / "r", **annotations))
        with pytest.raises(ValueError, match=said):
            generate(llama, 2, do_sample=False, logits_processor=[forced])
