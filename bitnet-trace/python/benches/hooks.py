r"""What a hook costs a stage, beside other ways to fingerprint a tensor.

A model of 64 modules, each with one operation, runs without hooks and with each way in turn, round after round. Taken
is the processor time of the thread, and PyTorch has one thread, so that other programs disturb little. Printed by
module: the median of the rounds, that less the median without hooks, the least of it, and our `capture, sketch` as a
part of it (the median of the quotients of the rounds).

    python benches/hooks.py [rounds]

msprobe is measured where it is installed. It wants many packages, which need not go into the environment:

    pip install --target /tmp/msprobe --no-deps mindstudio-probe matplotlib openpyxl et_xmlfile pytz tensorboard \
        tensorboard-data-server psutil einops contourpy cycler fonttools kiwisolver pyparsing pillow protobuf absl-py \
        grpcio markdown werkzeug skl2onnx onnx onnx_ir scikit-learn scipy joblib threadpoolctl narwhals ml_dtypes
    PYTHONPATH=/tmp/msprobe python benches/hooks.py
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import torch
from blake3 import blake3
from torch import nn

from bitnet_trace import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = 64
SHAPES = [(1, 2560), (128, 2560)]
WARMING_UP = 3
OURS = "capture, sketch"


class Negate(nn.Module):
    """One operation, as cheap as operations are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.neg()


@contextlib.contextmanager
def bare(_: nn.Module) -> Iterator[None]:
    yield


@contextlib.contextmanager
def empty_hook(model: nn.Module) -> Iterator[None]:
    handles = [module.register_forward_hook(lambda *_: None) for module in model.children()]
    yield
    for handle in handles:
        handle.remove()


def ours(what: str) -> Callable[[nn.Module], Any]:
    @contextlib.contextmanager
    def traced(model: nn.Module) -> Iterator[None]:
        # The root is left out, so that each way records the same tensors.
        with (
            tempfile.TemporaryDirectory() as directory,
            capture(model, directory, format="jsonl", capture=what, filter="name!=Sequential") as recorded,
        ):
            yield
        assert recorded.lost is None

    return traced


def of_children(model: nn.Module, record: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Calls a function with what each module returns."""

    def hook(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda _module, _inputs, output: record(name, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_children()]
    yield
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def by_hand(model: nn.Module) -> Iterator[None]:
    """The shortest hook with the `blake3` wheel: hash and root mean square, kept in memory."""
    kept: dict[str, tuple[str, float]] = {}

    def record(name: str, output: torch.Tensor) -> None:
        kept[name] = (blake3(output.numpy().view("u1").data).hexdigest(), output.square().mean().sqrt().item())

    yield from of_children(model, record)
    assert len(kept) == MODULES


@contextlib.contextmanager
def by_hand_with_file(model: nn.Module) -> Iterator[None]:
    """A hook that keeps as much as ours, but for the sketch: hash, statistics, one line of JSON."""
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "trace.jsonl").open("w") as file:

        def record(name: str, output: torch.Tensor) -> None:
            array = output.detach().float().contiguous().numpy()
            line = {
                "name": name,
                "shape": list(output.shape),
                "dtype": str(output.dtype),
                "blake3": blake3(array.view("u1").data).hexdigest(),
                "rms": output.square().mean().sqrt().item(),
                "min": output.min().item(),
                "max": output.max().item(),
                "mean": output.mean().item(),
            }
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield from of_children(model, record)


@contextlib.contextmanager
def debug_mode(_: nn.Module) -> Iterator[None]:
    """PyTorch's own: a 64-bit XOR of each operation's output, kept in memory."""
    from torch.utils._debug_mode import DebugMode

    with DebugMode() as mode, mode.log_tensor_hashes(hash_fn="hash_tensor"):
        yield


class Msprobe:
    """Huawei's msprobe: a 32-bit CRC of what each module returns. It writes its file after the round."""

    def __init__(self, directory: str) -> None:
        # Errors alone: it tells of each start and stop.
        os.environ.setdefault("MSPROBE_LOG_LEVEL", "3")
        from msprobe.pytorch import PrecisionDebugger

        statistics = {"scope": [], "list": [], "data_mode": ["forward", "output"], "summary_mode": "md5"}
        settings = {"task": "statistics", "level": "L0", "rank": [], "step": [], "dump_path": directory}
        path = Path(directory) / "config.json"
        path.write_text(json.dumps({**settings, "statistics": statistics}))
        self._directory = Path(directory)
        self._debugger = PrecisionDebugger(config_path=str(path))

    @contextlib.contextmanager
    def traced(self, model: nn.Module) -> Iterator[None]:
        self._debugger.start(model=model)
        yield
        self._debugger.stop()
        self._debugger.step()

    def verify(self) -> None:
        """Fails unless it has recorded every module."""
        files = list(self._directory.rglob("dump.json"))
        assert files, "msprobe has written nothing"
        recorded = json.loads(files[0].read_text())["data"]
        assert len(recorded) >= MODULES, f"msprobe has recorded {len(recorded)} modules"


def known_ways(directory: str) -> tuple[dict[str, Callable[[nn.Module], Any]], Optional[Msprobe]]:
    """All ways that are installed."""
    ways: dict[str, Callable[[nn.Module], Any]] = {
        "no hooks": bare,
        "empty hook": empty_hook,
        OURS: ours("sketch"),
        "capture, none": ours("none"),
        "hook by hand, in memory": by_hand,
        "hook by hand, jsonl": by_hand_with_file,
    }
    try:
        from torch.utils._debug_mode import DebugMode

        assert hasattr(DebugMode, "log_tensor_hashes")
        ways["DebugMode, hash_tensor"] = debug_mode
    except (AssertionError, ImportError):
        print("not measured: DebugMode, which this version of PyTorch does not have")
    msprobe = None
    try:
        msprobe = Msprobe(directory)
        ways["msprobe, md5"] = msprobe.traced
    except ImportError as error:
        print(f"not measured: msprobe, which is not installed ({error})")
    return ways, msprobe


def measure(ways: dict[str, Callable[[nn.Module], Any]], shape: tuple[int, int], rounds: int) -> None:
    x = torch.randn(shape)
    # msprobe leaves its hooks on a model: each way has its own.
    models = {name: nn.Sequential(*[Negate() for _ in range(MODULES)]) for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for number in range(rounds + WARMING_UP):
            for name, way in ways.items():
                with way(models[name]):
                    begin = time.thread_time()
                    models[name](x)
                    took = (time.thread_time() - begin) / MODULES * 1e6
                if number >= WARMING_UP:
                    times[name].append(took)
    base = times["no hooks"]
    print(f"{shape[0]}x{shape[1]} f32")
    for name, found in times.items():
        median = statistics.median(found)
        added = median - statistics.median(base)
        line = f"  {name:24} {median:9.1f}  over no hooks {added:8.1f}  best {min(found) - min(base):8.1f}"
        if name not in ("no hooks", "empty hook", OURS):
            quotients = [(one - bare) / (other - bare) for one, other, bare in zip(times[OURS], found, base)]
            line += f"  ours is {statistics.median(quotients):6.3f} of it"
        print(line)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        ways, msprobe = known_ways(directory)
        print(f"torch {torch.__version__}, one thread, {rounds} rounds; microseconds by module")
        for shape in SHAPES:
            measure(ways, shape, rounds)
        if msprobe is not None:
            msprobe.verify()


if __name__ == "__main__":
    main()
