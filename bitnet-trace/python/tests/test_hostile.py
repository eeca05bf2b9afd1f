"""Models that are not what a hook expects. The model's own results and errors come first."""

from __future__ import annotations

import collections
import concurrent.futures
import contextvars
import copy
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
import torch
from torch import nn

import bitnet_trace
from bitnet_trace import capture, scope
from conftest import Calls

Named = collections.namedtuple("Named", ["left", "right"])


@dataclasses.dataclass
class Output:
    """As transformers returns its outputs."""

    logits: torch.Tensor
    cache: Optional[Any] = None


def names_of(make: Callable[[torch.Tensor], Any]) -> list[str]:
    """The names of what a module that returns this records."""
    model = nn.Sequential(Calls(make))
    with capture(model, memory=True, filter="name=0*") as recorded:
        model(torch.ones(2))
    assert recorded.lost is None
    return [record.name for record in recorded.trace.records]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x, ["0"]),
        (lambda x: (x, x), ["0.0", "0.1"]),
        (lambda x: (None, [x, 3], "text"), ["0.1.0"]),
        (lambda x: {"a": x, "b": {"c": x}}, ["0.a", "0.b.c"]),
        (Output, ["0.logits"]),
        (lambda x: Named(x, x), ["0.left", "0.right"]),
        (lambda _: None, []),
        (lambda _: 7, []),
        (lambda _: object(), []),
        (nn.Parameter, ["0"]),
    ],
)
def test_every_tensor_of_an_output_has_a_label(make: Callable[[torch.Tensor], Any], expected: list[str]) -> None:
    assert names_of(make) == expected


def test_an_output_that_holds_itself_ends() -> None:
    def endless(x: torch.Tensor) -> list[Any]:
        items: list[Any] = [x]
        items.append(items)
        return items

    assert len(names_of(endless)) == 8


def test_sparse_quantized_and_nested_outputs(tmp_path: Path) -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    model = nn.Sequential(
        Calls(lambda x: x.to_sparse()),
        Calls(lambda x: x.to_dense().to_sparse_csr()),
        Calls(lambda x: torch.quantize_per_tensor(x.to_dense(), 1.0, 0, torch.quint8)),
        Calls(lambda x: torch.nested.nested_tensor([x.dequantize(), torch.ones(1, 2)])),
    )
    with capture(model, tmp_path / "t", filter="name!=Sequential") as recorded:
        assert model(dense).is_nested
    assert [record.name for record in recorded.trace.records] == ["0", "1", "2"]
    assert len({record.blake3 for record in recorded.trace.records}) == 1
    run = json.loads((tmp_path / "t" / "run.json").read_text())
    [loss] = run["losses"]
    assert (loss["cause"], loss["count"]) == ("cannot read the tensor", 1)


def test_modules_that_are_called_twice_or_shared_are_counted() -> None:
    linear = nn.Linear(2, 2)
    model = nn.Sequential(linear, linear, nn.ReLU())
    with capture(model, memory=True) as recorded:
        model(torch.ones(1, 2))
        model(torch.ones(1, 2))
    found = [(record.name, record.seq_index, record.call) for record in recorded.trace.records if record.name[0] == "0"]
    assert found == [("0", 0, 0), ("0#1", 0, 1), ("0", 1, 0), ("0#1", 1, 1)]


def test_what_has_no_elements_is_lost_and_the_model_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.ReLU())
    with capture(model, tmp_path / "t") as recorded:
        assert model(torch.ones(1, 2, device="meta")).shape == (1, 2)
        model(torch.ones(1, 2, device="meta"))
    assert not recorded.trace.records
    assert recorded.lost is not None
    run = json.loads((tmp_path / "t" / "run.json").read_text())
    assert [(loss["cause"], loss["count"]) for loss in run["losses"]] == [("cannot read the tensor", 6)]
    assert capfd.readouterr().err.count("warning") == 1


class Broken(collections.OrderedDict):  # type: ignore[type-arg]
    """A mapping that fails when it is read."""

    def items(self) -> Any:
        message = "not today"
        raise ZeroDivisionError(message)


def test_a_hook_that_fails_is_counted_once_a_cause(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(Calls(lambda x: x), Calls(lambda _: Broken()))
    with capture(model, tmp_path / "t") as recorded:
        assert isinstance(model(torch.ones(2)), Broken)
        model(torch.ones(2))
    assert [record.name for record in recorded.trace.records] == ["0", "0"]
    run = json.loads((tmp_path / "t" / "run.json").read_text())
    [loss] = run["losses"]
    assert (loss["cause"], loss["count"]) == ("a hook failed: ZeroDivisionError", 4)
    assert capfd.readouterr().err.count("warning") == 1


def test_an_exception_in_the_model_passes_and_everything_is_restored(llama: Any) -> None:
    modeling = sys.modules[type(llama).__module__]
    original = modeling.apply_rotary_pos_emb

    def fail(*_: Any) -> None:
        message = "out of memory"
        raise RuntimeError(message)

    handle = llama.model.layers[1].self_attn.v_proj.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"), capture(llama, memory=True) as recorded:
        llama(torch.tensor([[1, 2]]))
    handle.remove()
    assert modeling.apply_rotary_pos_emb is original
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in llama.modules())
    assert recorded.trace.records[-1].stage == "v_proj" or recorded.trace.records[-1].stage == "k_proj"
    from bitnet_trace._attention import _running

    assert not _running.modules


def test_captures_nest_and_end_in_any_order(llama: Any) -> None:
    modeling = sys.modules[type(llama).__module__]
    original = modeling.apply_rotary_pos_emb
    first, second = capture(llama, memory=True), capture(llama, memory=True)
    first.__enter__()
    second.__enter__()
    llama(torch.tensor([[1, 2]]))
    first.__exit__(None, None, None)
    llama(torch.tensor([[1, 2]]))
    second.__exit__(None, None, None)
    assert modeling.apply_rotary_pos_emb is original
    counts = [sum(record.stage == "q_rope" for record in one.trace.records) for one in (first, second)]
    assert counts == [2, 4]


@pytest.mark.parametrize("settings", [{}, {"ops": True, "backward": True}])
def test_a_model_is_copied_and_saved_while_it_is_captured(llama: Any, settings: dict[str, Any]) -> None:
    tokens = torch.tensor([[1, 2, 3]])
    expected = llama(tokens).logits
    with capture(llama, memory=True, **settings) as recorded:
        copied = copy.deepcopy(llama)
        file = io.BytesIO()
        torch.save(llama, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
    assert b"bitnet_trace" not in file.getvalue()
    for other in (copied, loaded):
        assert torch.equal(other(tokens).logits, expected)
    with capture(llama, memory=True, filter="stage=logits", **settings) as recorded:
        assert torch.equal(copied(tokens).logits, expected)
        assert torch.equal(llama(tokens).logits, expected)
    assert [record.stage for record in recorded.trace.records] == ["logits"]


def test_single_arrays_go_into_a_capture_that_is_open() -> None:
    def record_in(name: str) -> Iterator[Any]:
        with capture(nn.Identity(), memory=True) as recorded:
            yield recorded
            bitnet_trace.record(name, torch.ones(1))
        yield recorded

    first, second = record_in("first"), record_in("second")
    next(first)
    next(second)
    # The first ends although the second was opened inside it.
    one = next(first)
    two = next(second)
    bitnet_trace.record("after", torch.ones(1))
    names = [[record.name for record in recorded.trace.records] for recorded in (one, two)]
    assert names == [[], ["first", "second"]]
    third = record_in("third")
    next(third)
    assert [record.name for record in next(third).trace.records] == ["third"]


def test_a_capture_is_not_entered_twice_at_a_time(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Identity())
    once = capture(model, tmp_path / "t")
    with once:
        model(torch.ones(1))
        with pytest.raises(RuntimeError, match="open already"):
            once.__enter__()
        model(torch.ones(1))
    assert len(once.trace.records) == 4
    assert not model._forward_hooks
    with once:
        model(torch.ones(1))
    assert len(once.trace.records) == 2


def test_two_threads_record_into_their_own_captures() -> None:
    results: dict[int, list[float]] = {}

    def work(number: int) -> None:
        model = nn.Sequential(nn.Identity())
        with capture(model, memory=True) as recorded:
            for _ in range(50):
                model(torch.full((3,), float(number)))
        results[number] = [record.max or 0.0 for record in recorded.trace.records]

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: set(values) for number, values in results.items()} == {n: {float(n)} for n in (1, 2, 3)}


def in_threads(work: Callable[[int], None], count: int = 4) -> None:
    """Runs the work in threads at once, which change places as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            list(pool.map(work, range(count)))
    finally:
        sys.setswitchinterval(interval)


def test_threads_that_share_a_model_keep_their_steps() -> None:
    model = nn.Sequential(*[nn.Identity() for _ in range(8)])
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        x = torch.full((2,), float(number))
        barrier.wait()
        for _ in range(50):
            with scope(request=number, seq=number):
                model(x)

    with capture(model, memory=True) as recorded:
        in_threads(work)
    found = [(record.max, record.request, record.seq_index) for record in recorded.trace.records]
    assert len(found) == 4 * 50 * 9
    assert set(found) == {(float(number), number, number) for number in range(4)}


def test_threads_that_share_a_model_count_their_own_steps(llama: Any) -> None:
    turn = [threading.Event() for _ in range(3)]

    def step(ids: list[int], cache: Any = None) -> Any:
        with torch.no_grad():
            return llama(torch.tensor([ids]), past_key_values=cache, use_cache=True).past_key_values

    def second() -> None:
        turn[0].wait(60)
        with scope(request=2):
            step([4])
        turn[1].set()
        turn[2].wait(60)
        bitnet_trace.record("after", torch.ones(1))

    with capture(llama, memory=True) as recorded, concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(contextvars.copy_context().run, second)
        with scope(request=1):
            cache = step([2])
            cache = step([3], cache)
            turn[0].set()
            assert turn[1].wait(60)
            step([4], cache)
        turn[2].set()
        done.result()
    found = {(record.request, record.seq_index, record.tokens) for record in recorded.trace.records}
    assert found == {(1, 0, (0, 1)), (1, 1, (1, 2)), (1, 2, (2, 3)), (2, 0, (0, 1))}


def test_a_thread_that_calls_no_model_takes_the_latest_step() -> None:
    model = nn.Sequential(nn.Identity())

    def calls(number: int) -> None:
        model(torch.full((1,), float(number)))

    with capture(model, memory=True) as recorded:
        for number in range(3):
            thread = threading.Thread(target=calls, args=(number,))
            thread.start()
            thread.join()
        with scope(seq=7):
            model(torch.full((1,), 7.0))
        thread = threading.Thread(target=model[0], args=(torch.full((1,), 7.0),))
        thread.start()
        thread.join()
    found = [(record.seq_index, record.max) for record in recorded.trace.records]
    assert found == [*[(n, float(n)) for n in range(3) for _ in range(2)], *[(7, 7.0)] * 3]


def test_functions_of_torch_go_through() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    example = torch.ones(1, 2)
    with capture(model, memory=True):
        expected = model(example)
        assert torch.equal(torch.jit.trace(model, (example,), check_trace=False)(example), expected)
        assert torch.export.export(model, (example,)) is not None
        assert torch.equal(torch.vmap(model)(example), expected)
        model(example).sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("name", ["vmap", "grad", "jvp"])
def test_a_tensor_inside_a_function_transform_is_lost_by_that_name(name: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    x = torch.ones(3, 2)
    calls: dict[str, Callable[[], Any]] = {
        "vmap": lambda: torch.func.vmap(model)(x),
        "grad": lambda: torch.func.grad(lambda inner: model(inner).sum())(x),
        "jvp": lambda: torch.func.jvp(model, (x,), (x,)),
    }
    with capture(model, memory=True) as recorded:
        calls[name]()
    assert not recorded.trace.records
    assert recorded.lost is not None
    assert recorded.lost.endswith("2 x cannot read the tensor: a tensor inside torch.func has no memory of its own")


@pytest.mark.parametrize("in_place", [False, True])
def test_of_compiled_modules_only_the_border_is_seen(in_place: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    example = torch.ones(1, 2)
    expected = model(example)
    if in_place:
        model[1].compile(backend="eager", fullgraph=True)
    else:
        model[1] = torch.compile(model[1], backend="eager", fullgraph=True)
    with pytest.warns(UserWarning, match="only what it returns"), capture(model, memory=True) as recorded:
        assert torch.allclose(model(example), expected)
    assert [record.name for record in recorded.trace.records] == ["0", "1", "Sequential"]
    with pytest.warns(UserWarning, match="only what it returns"), capture(model, memory=True) as recorded:
        model(example)
    assert len(recorded.trace.records) == 3


def test_several_compiled_modules_are_said_once() -> None:
    model = nn.Sequential(*[torch.compile(nn.ReLU(), backend="eager") for _ in range(3)])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with capture(model, memory=True) as recorded:
            for _ in range(2):
                model(torch.ones(1))
    ours = [str(one.message) for one in said if "is compiled" in str(one.message)]
    assert [text.partition(":")[0] for text in ours] == ["0 is compiled"]
    assert len(recorded.trace.records) == 8


def test_a_function_that_compiles_the_model_still_compiles() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    compiled = torch.compile(lambda x: model(x) + 1, backend="eager", fullgraph=True)
    example = torch.ones(1, 2)
    with capture(model, memory=True):
        assert torch.allclose(compiled(example), model(example) + 1)


def test_the_accelerator_is_named_and_copied() -> None:
    if not torch.cuda.is_available():
        print("SKIPPED: there is no CUDA device")
        pytest.skip("there is no CUDA device")
    on_host = torch.arange(6.0).reshape(2, 3)
    session_records = []
    for tensor in (on_host.T, on_host.cuda().T):
        model = nn.Sequential(nn.Identity())
        with capture(model, memory=True) as recorded:
            model(tensor)
        session_records.append(recorded.trace.records[0])
    assert session_records[0].blake3 == session_records[1].blake3
    assert session_records[1].device == "cuda:0"


FORKING = """
import os, sys
import bitnet_trace, torch
model = torch.nn.Sequential(torch.nn.Identity())

def fork(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

def work():
    for _ in range(3000):
        model(torch.ones(2))
    bitnet_trace.record("worker", torch.ones(2))
    with bitnet_trace.capture(model, sys.argv[1] + "/own", memory=False) as own:
        model(torch.ones(2))
    assert len(own.trace) == 2, own.trace
    assert not model._forward_hooks

def inside():
    with bitnet_trace.capture(model, sys.argv[1] + "/parent", format=sys.argv[2]):
        model(torch.zeros(2))
        fork(work)
        model(torch.zeros(2))

inside()
os.environ["BITNET_TRACE_DIR"] = sys.argv[1] + "/environment"
bitnet_trace.record("before", torch.zeros(2))
fork(lambda: bitnet_trace.record("worker", torch.ones(2)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("format", ["files", "jsonl"])
def test_a_forked_process_leaves_the_trace_alone(tmp_path: Path, format: str) -> None:  # noqa: A002
    script = tmp_path / "script.py"
    script.write_text(FORKING)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BITNET_TRACE_")}
    subprocess.run([sys.executable, str(script), str(tmp_path), format], check=True, env=environment, timeout=300)
    trace = bitnet_trace.Trace.open(tmp_path / "parent")
    assert [(record.order, record.max) for record in trace.records] == [(order, 0.0) for order in range(4)]
    [record] = bitnet_trace.Trace.open(tmp_path / "environment").records
    assert record.name == "before"
    [own] = {record.max for record in bitnet_trace.Trace.open(tmp_path / "own").records}
    assert own == 1.0
