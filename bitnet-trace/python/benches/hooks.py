"""What a hook costs a stage, beside other ways to fingerprint a tensor.

A model of 64 modules, each with one operation, runs without hooks and with each way in turn, round after round, so that
a busy machine slows all of them. Printed is the median of a round, less that of the round without hooks, by module.

    python benches/hooks.py [rounds]
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import torch
from blake3 import blake3
from torch import nn

from bitnet_trace import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = 64
SHAPES = [(1, 2560), (128, 2560)]


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


@contextlib.contextmanager
def by_hand(model: nn.Module) -> Iterator[None]:
    """A hook as one writes it: BLAKE3 of the wheel, the root mean square, one line of JSON."""
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "trace.jsonl").open("w") as file:

        def hook(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
            def record(_: nn.Module, __: Any, output: torch.Tensor) -> None:
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

            return record

        handles = [module.register_forward_hook(hook(name)) for name, module in model.named_children()]
        yield
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def debug_mode(_: nn.Module) -> Iterator[None]:
    """PyTorch's own: a 64-bit XOR of each operation's output, kept in memory."""
    from torch.utils._debug_mode import DebugMode

    with DebugMode() as mode, mode.log_tensor_hashes(hash_fn="hash_tensor"):
        yield


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    ways: dict[str, Callable[[nn.Module], Any]] = {
        "no hooks": bare,
        "empty hook": empty_hook,
        "capture, sketch": ours("sketch"),
        "capture, none": ours("none"),
        "hook by hand, blake3 wheel": by_hand,
    }
    try:
        from torch.utils._debug_mode import DebugMode

        assert hasattr(DebugMode, "log_tensor_hashes")
        ways["DebugMode, hash_tensor"] = debug_mode
    except (AssertionError, ImportError):
        print("DebugMode: this version of PyTorch does not have it")
    model = nn.Sequential(*[Negate() for _ in range(MODULES)])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds; microseconds by module")
    for shape in SHAPES:
        x = torch.randn(shape)
        times: dict[str, list[float]] = {way: [] for way in ways}
        with torch.no_grad():
            for number in range(rounds + 3):
                for name, way in ways.items():
                    with way(model):
                        begin = time.perf_counter()
                        model(x)
                        took = (time.perf_counter() - begin) / MODULES * 1e6
                    # The first rounds warm up.
                    if number >= 3:
                        times[name].append(took)
        base = statistics.median(times["no hooks"])
        print(f"{shape[0]}x{shape[1]} f32")
        for name, found in times.items():
            median = statistics.median(found)
            best = min(found)
            print(f"  {name:28} {median:9.1f}  over no hooks {median - base:9.1f}  best {best:9.1f}")


if __name__ == "__main__":
    main()
