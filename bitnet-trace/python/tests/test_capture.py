"""A model of transformers, captured by one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bitnet_trace
from bitnet_trace import Trace, assert_match, capture, diff
from conftest import decode, make_llama

IN_A_BLOCK = [
    "attn_norm",
    "q_proj",
    "k_proj",
    "v_proj",
    "q_rope",
    "k_rope",
    "attn_scores_softmax",
    "attn_ctx",
    "o_proj",
    "attn_residual",
    "ffn_norm",
    "gate_proj",
    "up_proj",
    "ffn_act",
    "down_proj",
    "block_out",
]


def hooks(model: torch.nn.Module) -> int:
    """Counts the hooks of a model."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_prefill_and_decode_have_every_stage_in_order(llama: Any, tmp_path: Path) -> None:
    with capture(llama, tmp_path / "t", format="jsonl") as recorded:
        decode(llama)
    assert recorded.lost is None
    by_step: dict[int, list[Any]] = {}
    for record in recorded.trace.records:
        by_step.setdefault(record.seq_index if record.seq_index is not None else -1, []).append(record)
    expected = ["embeddings", *IN_A_BLOCK, *IN_A_BLOCK, "final_norm", "logits"]
    assert {step: [record.stage for record in records] for step, records in by_step.items()} == dict.fromkeys(
        range(4), expected
    )
    assert [records[0].tokens for records in by_step.values()] == [(0, 5), (5, 6), (6, 7), (7, 8)]
    q_proj = next(record for record in by_step[2] if record.stage == "q_proj" and record.layer_idx == 1)
    assert (q_proj.name, q_proj.output, q_proj.call) == ("model.layers.1.self_attn.q_proj", None, 0)
    run = json.loads((tmp_path / "t" / "run.json").read_text())
    assert run["annotations"]["model"] == "LlamaForCausalLM"


def test_the_model_computes_the_same_and_is_left_as_it_was(llama: Any, tmp_path: Path) -> None:
    modeling = sys.modules[type(llama).__module__]
    functions = (modeling.apply_rotary_pos_emb, modeling.eager_attention_forward)
    before = (hooks(llama), decode(llama), llama(torch.tensor([[3, 4]])).logits)
    with capture(llama, tmp_path / "t"):
        inside = (decode(llama), llama(torch.tensor([[3, 4]])).logits)
        assert modeling.apply_rotary_pos_emb is not functions[0]
    assert torch.equal(before[1], inside[0])
    assert torch.equal(before[2], inside[1])
    assert hooks(llama) == before[0]
    assert (modeling.apply_rotary_pos_emb, modeling.eager_attention_forward) == functions


def test_a_model_matches_itself(llama: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with capture(llama, tmp_path / name, format="jsonl", capture="sketch,values"):
            decode(llama)
    comparison = diff(tmp_path / "a", tmp_path / "b")
    assert comparison.matches
    assert comparison.first is None
    assert comparison.content["counts"] == {"identical": len(comparison.pairs)}
    comparison.assert_match()
    assert_match(Trace.open(tmp_path / "a"), tmp_path / "b")


def test_one_changed_weight_is_found(llama: Any) -> None:
    with capture(llama, memory=True) as reference:
        decode(llama)
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[5, 7] += 0.5
    with capture(llama, memory=True) as changed:
        decode(llama)
    comparison = diff(reference.trace, changed.trace)
    assert comparison.first is not None
    assert (comparison.first.stage, comparison.first.layer, comparison.first.seq) == ("up_proj", 1, 0)
    assert not comparison.first.matches
    assert comparison.conclusion == "differs"
    with pytest.raises(AssertionError, match="up_proj"):
        assert_match(reference.trace, changed.trace)
    assert "first divergence" in str(comparison)
    assert comparison._repr_html_().startswith("<iframe srcdoc=")


def test_stages_need_no_map_and_agree_with_it(llama: Any, tmp_path: Path) -> None:
    with capture(llama, tmp_path / "a"):
        decode(llama)
    with capture(llama, tmp_path / "b"):
        decode(llama)
    assert diff(tmp_path / "a", tmp_path / "b", map="hf").matches
    found = bitnet_trace.stages(["model.layers.3.self_attn.q_proj", "model.layers.3.mlp", "head"])
    assert [(stage.of(0), stage.layer, stage.ignored) for stage in found.values()] == [
        ("q_proj", 3, False),
        (None, 3, True),
        (None, None, False),
    ]


def test_sdpa_shows_all_but_the_probabilities(tmp_path: Path) -> None:
    model = make_llama(attention="sdpa")
    with capture(model, tmp_path / "t") as recorded:
        decode(model)
    stages = [record.stage for record in recorded.trace.records if record.layer_idx == 0 and record.seq_index == 0]
    assert stages == [stage for stage in IN_A_BLOCK if stage != "attn_scores_softmax"]


def test_filter_and_values(llama: Any, tmp_path: Path) -> None:
    with capture(llama, tmp_path / "t", filter="stage=q_proj;layer=0", capture="values") as recorded:
        output = {}
        q_proj = llama.model.layers[1].self_attn.q_proj
        handle = q_proj.register_forward_hook(lambda _, __, out: output.setdefault("q", out.detach().clone()))
        llama(torch.tensor([[1, 2, 3]]))
        handle.remove()
    assert {r.layer_idx for r in recorded.trace.records if r.stage != "q_proj"} == {0}
    values = recorded.trace.values("model.layers.1.self_attn.q_proj")
    assert torch.equal(torch.from_numpy(values.copy()), output["q"])


def test_a_second_prompt_and_a_cache_from_before(llama: Any) -> None:
    with capture(llama, memory=True, filter="stage=logits") as recorded:
        decode(llama)
        decode(llama)
    assert [(r.seq_index, r.call) for r in recorded.trace.records] == [(s, c) for c in (0, 1) for s in range(4)]
    cache = llama(torch.tensor([[1, 2, 3]]), use_cache=True)
    past = getattr(cache, "cache", None) or cache.past_key_values
    name = "cache" if hasattr(cache, "cache") else "past_key_values"
    with capture(llama, memory=True, filter="stage=logits") as recorded:
        llama(torch.tensor([[4]]), **{name: past})
    assert [(r.seq_index, r.tokens) for r in recorded.trace.records] == [(1, (3, 4))]
    with capture(llama, memory=True, filter="stage=logits") as recorded, bitnet_trace.scope(seq=9, request=2):
        llama(torch.tensor([[4]]))
    assert [(r.seq_index, r.request) for r in recorded.trace.records] == [(9, 2)]


def test_all_modules_are_recorded_on_demand(llama: Any) -> None:
    with capture(llama, memory=True, all_modules=True) as recorded:
        llama(torch.tensor([[1, 2]]))
    names = {record.name for record in recorded.trace.records}
    assert {"model.layers.0.mlp", "model.layers.0.mlp.act_fn", "model.rotary_emb.0", "LlamaForCausalLM.logits"} <= names


def test_what_is_no_module_is_refused_before_a_trace_is_begun(tmp_path: Path) -> None:
    for wrong, name in ((None, "NoneType"), (torch.nn.ReLU, "type"), (torch.relu, "builtin_function_or_method")):
        with pytest.raises(TypeError, match=rf"torch\.nn\.Module, found a value of type {name}"):
            capture(wrong, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_settings_that_are_wrong_say_so(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        capture(llama, tmp_path, memory=True)
    with pytest.raises(ValueError, match="`filter` needs a directory"):
        capture(llama, filter="stage=q_proj")
    with pytest.raises(bitnet_trace.TraceError, match="format"), capture(llama, tmp_path / "t", format="xml"):
        pass
    with pytest.raises(ValueError, match='`map` is "nope"'), capture(llama, memory=True, map="nope"):
        pass
    assert hooks(llama) == 0
    with pytest.raises(RuntimeError, match="there is no trace"):
        _ = capture(llama, memory=True).trace


@pytest.mark.parametrize(
    ("family", "settings", "own"),
    [
        ("Qwen3", {"head_dim": 16}, {"q_norm", "k_norm"}),
        ("Gemma2", {"head_dim": 16}, {"attn_post_norm", "ffn_post_norm"}),
        ("Phi3", {"pad_token_id": 0}, {"qkv_proj", "gate_up_proj"}),
        ("Mixtral", {"num_local_experts": 2}, {"ffn_moe_logits", "ffn_moe_out"}),
    ],
)
def test_other_families_have_their_stages(family: str, settings: dict[str, Any], own: set[str]) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 50}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = getattr(transformers, f"{family}Config")(**sizes, **heads, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model(tokens).logits
        with capture(model, memory=True) as recorded:
            assert torch.equal(model(tokens).logits, expected)
    assert recorded.lost is None
    between = {"q_rope", "k_rope", "attn_scores_softmax", "attn_ctx", "attn_residual"}
    stages = {record.stage for record in recorded.trace.records}
    outside = {"embeddings", "attn_norm", "o_proj", "ffn_norm", "block_out", "final_norm", "logits"}
    assert outside | between | own <= stages
    assert None not in stages
