"""Programs that are traced without an edit: `python -m bitnet_trace`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bitnet_trace import Trace

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("BITNET_TRACE_")}


def traced(place: Path, program: str, *arguments: str) -> Trace:
    """Runs the program, and opens what it recorded."""
    script = place / "script.py"
    script.write_text(program)
    command = [sys.executable, "-m", "bitnet_trace", "--dir", str(place / "t"), str(script), *arguments]
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=300)
    return Trace.open(place / "t")


def seen(trace: Trace) -> list[tuple[Any, ...]]:
    """Name, step and largest element of each record."""
    return [(record.name, record.seq_index, record.max) for record in trace.records]


SCRIPT = """
import sys
import torch
assert sys.argv[1:] == ["--seed", "3"], sys.argv
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
other = torch.nn.Sequential(torch.nn.Identity())
for _ in range(2):
    model(torch.ones(1, 2))
other(torch.ones(1))
"""


def test_every_model_of_a_program_is_traced(tmp_path: Path) -> None:
    trace = traced(tmp_path, SCRIPT, "--seed", "3")
    assert [one[:2] for one in seen(trace)] == [
        *[(name, step) for step in range(2) for name in ("0", "1", "Sequential")],
        ("Sequential.0", 0),
        ("Sequential.Sequential", 0),
    ]
    assert trace.manifest is not None
    assert trace.manifest["complete"] is True


def test_a_program_without_a_directory_to_record_into_is_refused() -> None:
    command = [sys.executable, "-m", "bitnet_trace", "script.py"]
    refused = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 2
    assert "BITNET_TRACE_DIR" in refused.stderr


FUNCTIONS = """
import gc
import weakref
import torch
from torch import nn


class Loss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.models = [model]

    def forward(self, x):
        return nn.MSELoss()(self.models[0](x), x)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = torch.full((2,), 3.0)

    def forward(self, x):
        return x * self.by


model = nn.Sequential(nn.Linear(2, 2))
left = []
for _ in range(3):
    loss = Loss(model)
    loss(torch.ones(1, 2)).backward()
    criterion = nn.MSELoss()
    criterion(torch.ones(2), torch.ones(2))
    left += [weakref.ref(loss), weakref.ref(criterion)]
del loss, criterion
gc.collect()
assert [one() for one in left] == [None] * 6, left
Scale()(torch.ones(2))
"""


def test_functions_that_a_program_makes_are_not_kept(tmp_path: Path) -> None:
    found = seen(traced(tmp_path, FUNCTIONS))
    assert [one[:2] for one in found[:-1]] == [(name, step) for step in range(3) for name in ("0", "Sequential")]
    assert found[-1] == ("Scale.Scale", 0, 3.0)


THREADS = """
import threading
import time
import torch
from torch import nn


class Slow(nn.Sequential):
    def named_modules(self, *args, **kwargs):
        time.sleep(0.2)  # the other thread calls in the meantime
        return super().named_modules(*args, **kwargs)


model = Slow(nn.Identity())
barrier = threading.Barrier(2)


def work(value):
    barrier.wait()
    model(torch.full((1,), value))


threads = [threading.Thread(target=work, args=(value,)) for value in (1.0, 2.0)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_call_a_new_model_at_once_are_both_recorded_once(tmp_path: Path) -> None:
    found = seen(traced(tmp_path, THREADS))
    assert sorted((name, largest) for name, _, largest in found) == [
        ("0", 1.0),
        ("0", 2.0),
        ("Slow", 1.0),
        ("Slow", 2.0),
    ]


BROKEN = """
import torch
from torch import nn


class Broken(nn.Identity):
    def modules(self):
        raise RuntimeError("no modules")

    def named_modules(self, *args, **kwargs):
        raise RuntimeError("no modules")


model = Broken()
model.weight = nn.Parameter(torch.ones(1))
for value in (1, 2):
    assert model(value) == value
nn.Sequential(nn.Identity())(model.weight)
"""


def test_a_model_that_cannot_be_followed_still_runs(tmp_path: Path) -> None:
    assert [one[0] for one in seen(traced(tmp_path, BROKEN))] == ["0", "Sequential"]
