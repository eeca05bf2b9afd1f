"""`capture(.., ops=True)`: the operations below the modules."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint

import bitnet_trace
from bitnet_trace import capture, diff
from conftest import Calls, decode


def operations_of(make: Callable[[torch.Tensor], Any], x: torch.Tensor) -> list[str]:
    """The names of the operations of a module that computes this, without the module's own name."""
    model = nn.Sequential(Calls(make))
    with capture(model, memory=True, ops=True) as recorded:
        model(x)
    assert recorded.lost is None
    names = [record.name for record in recorded.trace.records if "/" in record.name]
    assert all(name.startswith("0/") for name in names)
    return [name.removeprefix("0/") for name in names]


def test_each_operation_has_the_module_that_it_ran_in(llama: Any) -> None:
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = llama(tokens).logits
        with capture(llama, memory=True, ops=True) as recorded:
            assert torch.equal(llama(tokens).logits, expected)
    assert recorded.lost is None
    assert _get_current_dispatch_mode() is None
    by_name = {record.name: record for record in recorded.trace.records}
    product = by_name["model.layers.1.self_attn.q_proj/aten.mm"]
    assert (product.stage, product.layer_idx, product.seq_index, product.tokens) == ("q_proj/aten.mm", 1, 0, (0, 3))
    assert product.blake3 == by_name["model.layers.1.self_attn.q_proj"].blake3
    # Modules without a stage of their own have their path in the layer; further calls are counted.
    assert by_name["model.layers.0.mlp/aten.mul"].stage == "mlp/aten.mul"
    assert by_name["model.layers.0.input_layernorm/aten.mul#1"].call == 1
    assert by_name["model.layers.0/aten.add#1"].stage == "block_out/aten.add"
    assert by_name["model.rotary_emb/aten.cos"].stage == "model.rotary_emb/aten.cos"
    # An operation stands before what its module returns.
    assert product.order < by_name["model.layers.1.self_attn.q_proj"].order
    # Weights are not results: their transposes are left out.
    assert not any(name.endswith("q_proj/aten.t") for name in by_name)


def test_generating_is_the_same_and_aligns_step_by_step(llama: Any, tmp_path: Path) -> None:
    expected = decode(llama)
    for name in ("a", "b"):
        with capture(llama, tmp_path / name, format="jsonl", ops=True):
            assert torch.equal(decode(llama), expected)
    comparison = diff(tmp_path / "a", tmp_path / "b")
    assert comparison.matches
    assert set(comparison.content["counts"]) == {"identical"}
    # What `generate` does between the calls belongs to the step before it.
    outside = {pair.name for pair in comparison.pairs if pair.layer is None and pair.stage == "aten.argmax"}
    assert outside == {f"t{step}/aten.argmax" for step in range(4)}


def test_a_fault_between_modules_is_found_at_its_operation(llama: Any) -> None:
    tokens = torch.tensor([[1, 2, 3]])
    with capture(llama, memory=True, ops=True) as reference:
        llama(tokens)
    # The scale of the scores: no module computes them.
    llama.model.layers[1].self_attn.scaling *= 1.01
    with capture(llama, memory=True, ops=True) as changed:
        llama(tokens)
    comparison = diff(reference.trace, changed.trace)
    assert comparison.first is not None
    assert (comparison.first.layer, comparison.first.stage) == (1, "self_attn/aten.mul")
    assert "self_attn/aten.mul" in str(comparison)


def test_modules_still_compare_with_a_side_that_has_no_operations(llama: Any) -> None:
    with capture(llama, memory=True) as modules:
        decode(llama)
    with capture(llama, memory=True, ops=True) as both:
        decode(llama)
    comparison = diff(both.trace, modules.trace)
    assert comparison.first is None
    assert not comparison.matches
    assert comparison.content["counts"]["identical"] == len(modules.trace.records)
    alone = {group["stage"] for group in comparison.content["coverage"]}
    assert {group["side"] for group in comparison.content["coverage"]} == {"reference"}
    assert all("aten." in stage for stage in alone)
    assert diff(both.trace, modules.trace, only_common=True).matches
    with capture(llama, memory=True, ops=True, filter="stage!=*aten.*") as filtered:
        decode(llama)
    assert diff(modules.trace, filtered.trace).matches


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x.mul(2).add_(1), ["aten.mul", "aten.add_"]),
        (lambda x: torch.add(x, 1, out=torch.empty(2, 3)), ["aten.add"]),
        (lambda x: x.t()[0], ["aten.t", "aten.select"]),
        (lambda x: x.topk(2), ["aten.topk.0", "aten.topk.1"]),
        (lambda x: x.split([1, 2], 1), ["aten.split_with_sizes.0", "aten.split_with_sizes.1"]),
        (lambda x: x.sum().item(), ["aten.sum"]),
        (lambda x: torch.empty_like(x).fill_(1), ["aten.fill_"]),
        (lambda x: torch._foreach_mul_([x.clone()], 2), ["aten.clone", "aten._foreach_mul_.self.0"]),
        (lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,)), ["aten.sum", "aten.gt", "cond.0"]),
    ],
)
def test_every_kind_of_operation_is_recorded(make: Callable[[torch.Tensor], Any], expected: list[str]) -> None:
    found = operations_of(make, torch.arange(6.0).reshape(2, 3))
    assert [name.removeprefix("higher_order.") for name in found] == expected


def test_a_custom_operation_is_recorded_by_what_it_writes() -> None:
    with torch.library._scoped_library("bitnet_trace_test", "FRAGMENT") as library:
        library.define("double_(Tensor(a!) x, int times) -> ()")
        library.impl("double_", lambda x, times: x.mul_(2**times) and None, "CompositeExplicitAutograd")
        names = operations_of(lambda x: torch.ops.bitnet_trace_test.double_(x, 2), torch.ones(1))
    assert names == ["bitnet_trace_test.double_.x"]


def test_random_numbers_are_those_of_a_run_without() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    x = torch.ones(3, 4)
    torch.manual_seed(3)
    expected = [model(x) for _ in range(2)]
    torch.manual_seed(3)
    with capture(model, memory=True, ops=True, backward=True) as recorded:
        assert all(torch.equal(one, model(x)) for one in expected)
    assert "1/aten.bernoulli_" in {record.name for record in recorded.trace.records}


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64])
def test_what_recording_does_is_no_operation(dtype: torch.dtype) -> None:
    # These types are converted before they are read.
    assert operations_of(lambda x: x.to(dtype), torch.ones(2, 2)) == ["aten._to_copy"]
    assert operations_of(lambda x: x.to_sparse(), torch.ones(2, 2))[-1] == "aten._to_sparse"


def test_operations_of_the_backward_pass_have_the_module_of_the_forward_pass() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    with capture(model, memory=True, ops=True) as recorded:
        for _ in range(2):
            model(torch.ones(2, 2)).square().sum().backward()
    by_name = {record.name: record for record in recorded.trace.records}
    assert by_name["1/backward.aten.tanh_backward"].stage == "1/backward.aten.tanh_backward"
    assert {"2/backward.aten.mm", "0/backward.aten.mm"} <= set(by_name)
    # The loss is computed outside of the model, after its step.
    assert {"t0/aten.pow", "t1/aten.pow", "t0/backward.aten.pow"} <= set(by_name)
    order = [
        by_name[f"{name}/backward.aten.{op}"].order for name, op in [("2", "mm"), ("1", "tanh_backward"), ("0", "mm")]
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_that_is_computed_again_is_a_repeat_of_its_module(*, reentrant: bool) -> None:
    model = nn.Sequential(Calls(lambda x: x.cos()), nn.Linear(2, 2))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> Any:
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    outer = Outer()
    with capture(outer, memory=True, ops=True) as recorded:
        outer(torch.ones(1, 2, requires_grad=True)).sum().backward()
    found = [(r.name, r.call) for r in recorded.trace.records if "cos" in r.name or "sin" in r.name]
    assert ("inner.0/aten.cos", 0) in found
    assert ("inner.0/aten.cos#1", 1) in found
    assert ("inner.0/backward.aten.sin", 0) in found
    assert model[1].weight.grad is not None


def test_an_error_in_an_operation_passes_and_the_modules_stay_right() -> None:
    broken = Calls(lambda x: x.cos() @ torch.ones(7))
    model = nn.Sequential(nn.ReLU(), broken)
    with capture(model, memory=True, ops=True) as recorded:
        with pytest.raises(RuntimeError, match="size mismatch"):
            model(torch.ones(2, 2))
        torch.ones(1).exp()
        with pytest.raises(RuntimeError):
            model[1](torch.ones(2, 2))
        model[0](torch.ones(2, 2))
    names = [record.name for record in recorded.trace.records if "aten.ones" not in record.name]
    assert names == ["0/aten.relu", "0", "1/aten.cos", "t0/aten.exp", "1/aten.cos#1", "0/aten.relu#1", "0#1"]
    assert _get_current_dispatch_mode() is None


def test_a_failure_of_the_mode_is_counted_and_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.ReLU())

    def fail(*_: Any) -> None:
        message = "not today"
        raise ZeroDivisionError(message)

    for place in ("enter", "leave", "where", "record"):
        with monkeypatch.context() as patch:
            patch.setattr(f"bitnet_trace._operations.Operations.{place}", fail)
            with capture(model, memory=True, ops=True) as recorded:
                assert model(torch.ones(1)) == 1
        assert recorded.lost is not None
        assert "ZeroDivisionError" in recorded.lost
        assert "0" in {record.name for record in recorded.trace.records}


class Counting(TorchDispatchMode):
    """Another mode of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_other_modes_see_the_same_and_may_end_in_any_order() -> None:
    model = nn.Sequential(nn.ReLU())
    x = torch.ones(2)
    with Counting() as plain:
        model(x)
    around = Counting()
    inner = Counting()
    with around, capture(model, memory=True, ops=True) as recorded, inner:
        model(x)
    assert around.seen == inner.seen == plain.seen
    assert len(recorded.trace.records) == 3
    first, second = (capture(model, memory=True, ops=True) for _ in range(2))
    first.__enter__()
    second.__enter__()
    model(x)
    first.__exit__(None, None, None)
    model(x)
    second.__exit__(None, None, None)
    assert [len(one.trace.records) for one in (first, second)] == [3, 6]
    assert _get_current_dispatch_mode() is None
    # A mode that is entered inside and left later keeps working.
    third = capture(model, memory=True, ops=True)
    third.__enter__()
    late = Counting()
    late.__enter__()
    third.__exit__(None, None, None)
    model(x)
    assert late.seen == plain.seen
    late.__exit__(None, None, None)
    with capture(model, memory=True, ops=True) as recorded:
        model(x)
    assert len(recorded.trace.records) == 3
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


def test_another_thread_records_modules_alone() -> None:
    model = nn.Sequential(nn.ReLU())
    with capture(model, memory=True, ops=True) as recorded:
        thread = threading.Thread(target=lambda: model(torch.ones(1)))
        thread.start()
        thread.join()
        model(torch.ones(1))
    names = [record.name for record in recorded.trace.records]
    assert names == ["0", "Sequential", "t0/aten.ones", "0/aten.relu", "0", "Sequential"]


def test_functions_of_torch_go_through() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    example = torch.ones(1, 2)
    expected = model(example)
    with capture(model, memory=True, ops=True, backward=True) as recorded:
        assert torch.equal(torch.jit.trace(model, (example,), check_trace=False)(example), expected)
        assert torch.export.export(model, (example,)) is not None
        assert torch.equal(torch.vmap(model)(example), expected)
        with torch._subclasses.FakeTensorMode() as fake:
            assert torch.relu(fake.from_tensor(example)).shape == (1, 2)
        parameters = dict(model.named_parameters())
        gradients = torch.func.grad(lambda p: torch.func.functional_call(model, p, (example,)).sum())(parameters)
        model(example).sum().backward()
    assert torch.equal(gradients["0.weight"], model[0].weight.grad)
    assert recorded.trace.records


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_modules_stay_compiled(in_place: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    example = torch.ones(1, 2)
    expected = model(example)
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    if in_place:
        model[1].compile(backend=backend, fullgraph=True)
    else:
        model[1] = torch.compile(model[1], backend=backend, fullgraph=True)
    seen = pytest.warns(UserWarning, match="only what it returns")
    with seen, capture(model, memory=True, ops=True, backward=True) as recorded:
        assert torch.allclose(model(example), expected)
    assert len(graphs) == 1
    modules = [record.name for record in recorded.trace.records if "/" not in record.name]
    assert modules == ["0", "1", "Sequential"]


def test_a_function_that_compiles_the_model_still_compiles() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    example = torch.ones(1, 2)
    with capture(model, memory=True, ops=True, backward=True):
        compiled = torch.compile(lambda x: model(x) + 1, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(example), model(example) + 1)


def test_operations_without_elements_are_lost_and_the_model_runs() -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"))
    with capture(model, memory=True, ops=True) as recorded:
        assert model(torch.ones(1, 2, device="meta")).shape == (1, 2)
    assert recorded.lost is not None
    assert "meta" in recorded.lost


SCRIPT = """
import threading
import torch
model = torch.nn.Sequential(torch.nn.Linear(2, 1))
other = torch.nn.Sequential(torch.nn.Tanh())
torch.ones(1).cos()
other(model(torch.ones(1, 2))).sum().backward()
thread = threading.Thread(target=other, args=(torch.ones(1),))
thread.start()
thread.join()
"""


def test_a_program_is_traced_without_an_edit(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "bitnet_trace", "--ops", "--backward", "--dir", str(tmp_path / "t"), str(script)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BITNET_TRACE_")}
    subprocess.run(command, check=True, env=environment)
    trace = bitnet_trace.Trace.open(tmp_path / "t")
    assert trace.manifest is not None
    assert trace.manifest["losses"] == []
    moves = (".detach", ".view", ".expand", ".t")
    names = [record.name for record in trace.records if not record.name.partition("#")[0].endswith(moves)]
    assert names == [
        "0/aten.addmm",
        "0",
        "Sequential",
        "Sequential.0/aten.tanh",
        "Sequential.0",
        "Sequential.Sequential",
        "t0/aten.sum",
        "t0/aten.ones_like",
        "t0/Sequential.0",
        "t0/Sequential.Sequential",
        "Sequential.0/backward.aten.tanh_backward",
        "t0/0",
        "t0/Sequential",
        "0/backward.aten.mm",
        "0/backward.aten.sum",
        "t0/0.bias",
        "t0/0.weight",
        "t0/aten.ones",
        "Sequential.0/aten.tanh",
        "Sequential.0",
        "Sequential.Sequential",
    ]
