"""`capture(.., backward=True)`: gradients of modules and parameters."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import bitnet_trace
from bitnet_trace import Trace, capture, diff
from conftest import Calls


class Tiny(nn.Module):
    """A model with two layers, whose names are those of the training example of the guide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = nn.Linear(3, 4)
        self.fc2 = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(self.fc1(x).tanh())
        return out


X = torch.arange(6.0).reshape(2, 3) / 6


def trained(model: nn.Module, *, steps: int = 3, change: Optional[Callable[[int], None]] = None) -> Trace:
    """The trace of some steps of training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture(model, memory=True, backward=True) as recorded:
        for step in range(steps):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            if change is not None:
                change(step)
            optimizer.step()
    assert recorded.lost is None
    return recorded.trace


def gradients(trace: Trace) -> list[Any]:
    """The records of gradients."""
    return [record for record in trace.records if record.io == "grad"]


def test_gradients_have_the_names_that_the_rust_side_gives() -> None:
    model = Tiny()
    with capture(model, memory=True, backward=True, capture="values") as recorded:
        model(X).square().mean().backward()
    found = gradients(recorded.trace)
    # As `record_gradients` names them: the tensor's name as stage, the step before it, neither layer nor tokens.
    assert [(r.name, r.stage, r.seq_index, r.layer_idx, r.tokens, r.output) for r in found] == [
        (f"t0/{name}", name, 0, None, None, None)
        for name in ["fc2", "Tiny", "fc2.bias", "fc2.weight", "fc1", "fc1.bias", "fc1.weight"]
    ]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_array_equal(recorded.trace.values(f"t0/{name}"), parameter.grad.numpy())
    outputs = model.fc1(X)
    outputs.retain_grad()
    model.fc2(outputs.tanh()).square().mean().backward()
    np.testing.assert_array_equal(recorded.trace.values("t0/fc1"), outputs.grad.numpy())


def test_names_of_layers_are_kept_whole(llama: Any) -> None:
    tokens = torch.tensor([[1, 2, 3]])
    with capture(llama, memory=True, backward=True) as recorded:
        for _ in range(2):
            llama(tokens, labels=tokens).loss.backward()
    assert recorded.lost is None
    names = {record.name for record in gradients(recorded.trace)}
    assert {"t0/model.layers.1.self_attn.q_proj", "t1/model.layers.0.mlp.up_proj.weight"} <= names
    assert {record.layer_idx for record in gradients(recorded.trace)} == {None}
    # Each call is a step, though each begins with an empty cache.
    steps = [record.seq_index for record in recorded.trace.records if record.stage == "logits"]
    assert steps == [0, 1]


def test_two_runs_compare_and_a_fault_is_found() -> None:
    reference = trained(Tiny())
    assert diff(reference, trained(Tiny())).matches

    model = Tiny()
    count = iter(range(100))
    # A wrong backward pass, in the second step alone.
    model.fc2.weight.register_hook(lambda grad: grad * 2 if next(count) == 1 else grad)
    comparison = diff(reference, trained(model))
    assert comparison.first is not None
    assert (comparison.first.name, comparison.first.verdict) == ("t1/fc2.weight", "diverged")
    assert "t1/fc2.weight (gradient)" in str(comparison)

    detached = Tiny()
    detached.fc1.requires_grad_(requires_grad=False)
    comparison = diff(reference, trained(detached))
    alone = {group["stage"] for group in comparison.content["coverage"] if group["side"] == "reference"}
    assert any("fc1.weight" in stage for stage in alone), alone


def test_gradients_that_accumulate_are_repeats_that_grow() -> None:
    model = Tiny()
    with capture(model, memory=True, backward=True, capture="values") as recorded, bitnet_trace.scope(seq=4):
        for _ in range(2):
            model(X).square().mean().backward()
    names = [record.name for record in gradients(recorded.trace) if record.stage == "fc1.weight"]
    assert names == ["t4/fc1.weight", "t4/fc1.weight#1"]
    first, second = (recorded.trace.values(name) for name in names)
    np.testing.assert_allclose(second, 2 * first)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_has_each_gradient_once(*, reentrant: bool) -> None:
    inner = Tiny()

    class Outer(nn.Module):
        def __init__(self, *, checkpointed: bool) -> None:
            super().__init__()
            self.inner = inner
            self.checkpointed = checkpointed

        def forward(self, x: torch.Tensor) -> Any:
            return checkpoint(self.inner, x, use_reentrant=reentrant) if self.checkpointed else self.inner(x)

    x = X.clone().requires_grad_()
    traces = []
    for model in (Outer(checkpointed=True), Outer(checkpointed=False)):
        with capture(model, memory=True, backward=True, filter="io=grad,name=*inner*") as recorded:
            model(x).square().mean().backward()
        inner.zero_grad()
        traces.append(recorded.trace)
    parameters = [[r.name for r in gradients(trace) if r.name.endswith(("weight", "bias"))] for trace in traces]
    assert sorted(parameters[0]) == sorted(parameters[1])
    assert len(set(parameters[0])) == 4
    digests = [{r.name: r.blake3 for r in gradients(trace)} for trace in traces]
    assert digests[0] == digests[1]


def test_without_gradients_nothing_is_recorded() -> None:
    model = Tiny()
    with capture(model, memory=True, backward=True) as recorded:
        with torch.no_grad():
            model(X)
        with torch.inference_mode():
            model(X)
        model.requires_grad_(requires_grad=False)(X)
        model.requires_grad_()
    assert not gradients(recorded.trace)
    assert recorded.lost is None


@dataclasses.dataclass
class Output:
    """An output that a full backward hook would not look into."""

    hidden: torch.Tensor
    other: Optional[torch.Tensor] = None


@pytest.mark.parametrize(
    ("make", "use", "expected"),
    [
        # What comes after changes the output in place: a full backward hook makes that an error.
        (lambda x: x * 2, lambda out: out.mul_(3), {"0": 3.0}),
        # Of a view that is changed in place, autograd makes a new node: nothing computes the gradient of the old one.
        (lambda x: (x * 2).view(3, 2), lambda out: out.mul_(3), {}),
        (lambda x: Output(x * 2, x * 3), lambda out: out.hidden + out.other * 4, {"0.hidden": 1.0, "0.other": 4.0}),
        (lambda x: {"a": x * 2, "unused": x * 5}, lambda out: out["a"], {"0.a": 1.0}),
        (lambda x: (x * 2, torch.tensor(1), None), lambda out: out[0], {"0.0": 1.0}),
        (lambda x: x, lambda out: out * 7, {"0": 7.0}),
        (lambda x: (x * 2).to(torch.float64), lambda out: out.float() * 2, {"0": 2.0}),
    ],
)
def test_outputs_of_every_kind(
    make: Callable[[Any], Any], use: Callable[[Any], torch.Tensor], expected: dict[str, float]
) -> None:
    model = nn.Sequential(Calls(make))
    plain = X.clone().requires_grad_()
    use(model(plain)).sum().backward()
    x = X.clone().requires_grad_()
    with capture(model, memory=True, backward=True, filter="io=grad,name=t0/0*") as recorded:
        use(model(x)).sum().backward()
    assert torch.equal(x.grad, plain.grad)
    assert recorded.lost is None
    assert {record.stage: record.max for record in recorded.trace.records} == expected


def test_shared_modules_and_tied_parameters_are_repeats() -> None:
    linear = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(linear, nn.Tanh(), linear)
    with capture(model, memory=True, backward=True) as recorded:
        model(X).sum().backward()
    names = [record.name for record in gradients(recorded.trace)]
    # Both calls of the module; the parameter once, with the sum.
    assert sorted(names) == ["t0/0", "t0/0#1", "t0/0.weight", "t0/1", "t0/Sequential"]


def test_a_parameter_that_a_module_returns_keeps_no_hook() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self) -> torch.Tensor:
            return self.weight

    model = Holds()
    with capture(model, memory=True, backward=True) as recorded:
        for _ in range(2):
            (model() * model()).sum().backward()
    # The gradient of what it returns, and that of the parameter, once for each of two backward passes.
    assert sorted(record.stage for record in gradients(recorded.trace)) == ["Holds"] * 2 + ["weight"] * 2
    assert not model.weight._backward_hooks
    assert not model.weight._post_accumulate_grad_hooks


def test_after_the_block_no_gradient_is_recorded_and_no_hook_is_left() -> None:
    model = Tiny()
    with capture(model, memory=True, backward=True) as recorded:
        loss = model(X).sum()
    count = len(recorded.trace.records)
    loss.backward()
    assert len(recorded.trace.records) == count
    assert recorded.lost is None
    assert all(not parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_errors_in_the_backward_pass_go_through() -> None:
    model = Tiny()

    def fail(_: torch.Tensor) -> None:
        message = "not today"
        raise ZeroDivisionError(message)

    handle = model.fc1.bias.register_hook(fail)
    with pytest.raises(ZeroDivisionError), capture(model, memory=True, backward=True) as recorded:
        model(X).sum().backward()
    handle.remove()
    assert "t0/fc2.weight" in {record.name for record in gradients(recorded.trace)}
    with capture(model, memory=True, backward=True) as recorded:
        with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar"):
            model(X).backward()
        model(X).sum().backward()
    assert "t1/fc1.weight" in {record.name for record in gradients(recorded.trace)}


def test_sparse_gradients_double_backward_and_grad_without_accumulation() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    with capture(embedding, memory=True, backward=True) as recorded:
        embedding(torch.tensor([1, 3, 3])).sum().backward()
    assert [(r.name, r.shape, r.max) for r in gradients(recorded.trace)] == [
        ("t0/Embedding", (3, 2), 1.0),
        ("t0/weight", (5, 2), 2.0),
    ]
    model = Tiny()
    with capture(model, memory=True, backward=True) as recorded:
        x = X.clone().requires_grad_()
        [gradient] = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert recorded.lost is None
    assert {"fc1.weight", "fc1"} <= {record.stage for record in gradients(recorded.trace)}


def test_a_hook_that_cannot_read_is_counted_and_the_model_learns() -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"))
    with capture(model, memory=True, backward=True, filter="io=grad") as recorded:
        model(torch.ones(1, 2, device="meta")).sum().backward()
    assert model[0].weight.grad is not None
    assert recorded.lost is not None
    assert "meta" in recorded.lost


def test_a_lazy_parameter_is_lost_until_the_model_was_called() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    for lost, expected in [(True, {"1.weight", "1.bias"}), (False, {"0.weight", "0.bias", "1.weight", "1.bias"})]:
        with capture(model, memory=True, backward=True, filter="stage=*.weight|*.bias") as recorded:
            model(torch.ones(1, 2)).sum().backward()
        assert {record.stage for record in recorded.trace.records} == expected
        assert ("2 x a lazy parameter" in (recorded.lost or "")) == lost
