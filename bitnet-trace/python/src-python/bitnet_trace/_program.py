"""Runs a program and captures every model that it calls."""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ._capture import Capture
from ._fork import environment
from ._generate import follow_every_generate
from ._tokens import Tokens, of_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ._operations import OperationMode

_VARIABLES = {
    "dir": "BITNET_TRACE_DIR",
    "filter": "BITNET_TRACE_FILTER",
    "format": "BITNET_TRACE_FORMAT",
    "capture": "BITNET_TRACE_CAPTURE",
    "print": "BITNET_TRACE_PRINT",
}


class _Running(threading.local):
    depth = 0


class Follower:
    """Captures each root module when it is first called.

    A capture keeps its module alive. A module that is a mere function gets none: programs make one for each step.
    """

    def __init__(self, *, ops: bool, backward: bool) -> None:
        self._ops = ops
        self._backward = backward
        self._mode: Optional[OperationMode] = None
        self._known: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._running = _Running()
        self._attaching = threading.RLock()
        self._captures: list[Capture] = []

    def start(self) -> None:
        """Follows every call of a module from now on."""
        import torch

        is_compiling = torch.compiler.is_compiling
        original = torch.nn.Module.__call__
        running = self._running
        if self._ops:
            from ._operations import OperationMode

            # Below every mode that the program enters and leaves.
            self._mode = OperationMode(one_session=True)
            self._mode.start()
        mode, main = self._mode, threading.get_ident()

        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            if is_compiling() or running.depth:
                return original(module, *args, **kwargs)
            known = module in self._known
            if not known and not _is_function(module):
                # Another thread that calls the module waits for the hooks.
                with self._attaching:
                    if module not in self._known:
                        self._attach(module)
                known = True
            # A model that a function calls is a root module.
            running.depth += known
            elsewhere = mode if threading.get_ident() != main else None
            try:
                with elsewhere or contextlib.nullcontext():
                    return original(module, *args, **kwargs)
            finally:
                running.depth -= known

        torch.nn.Module.__call__ = call  # type: ignore[method-assign]
        if not self._backward:
            # The first `generate` begins before the call that attaches the capture.
            follow_every_generate(_tokens)

    def _attach(self, module: torch.nn.Module) -> None:
        # The modules of a second model may have the names of the first.
        prefix = f"{type(module).__name__}." if self._captures else ""
        settings: dict[str, Optional[str]] = {}
        capture = Capture(
            module,
            None,
            memory=False,
            settings=settings,
            map="hf",
            all_modules=False,
            ops=self._ops,
            backward=self._backward,
            prefix=prefix,
            mode=self._mode,
        )
        try:
            capture.__enter__()
            self._captures.append(capture)
            self._known.update(module.modules())
        except Exception as error:  # noqa: BLE001 - tracing never fails the program
            sys.stderr.write(f"bitnet-trace: warning: {type(module).__name__} is not traced: {error}\n")
        # Also one that cannot be captured: it is not tried again.
        self._known.add(module)


def _is_function(module: torch.nn.Module) -> bool:
    """Whether a module holds no module and no tensor, like a loss or an activation."""
    import torch

    if module._modules or module._parameters or module._buffers:
        return False
    return not any(isinstance(value, torch.Tensor) for value in vars(module).values())


def _tokens() -> Optional[Tokens]:
    session = environment()
    return None if session is None else of_environment(session)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m bitnet_trace",
        description="Runs a Python program and records what the modules of its PyTorch models return.",
        epilog="Without --dir, the variable BITNET_TRACE_DIR says where to record.",
    )
    parser.add_argument("--dir", help="the directory to record into")
    parser.add_argument("--filter", help="which records are written: stage=attn_*,layer=0-3")
    parser.add_argument("--format", help="files or jsonl")
    parser.add_argument("--capture", help="what is kept besides hash and statistics: sketch, rows, values")
    parser.add_argument("--print", help="which records are printed: a filter, or all")
    parser.add_argument("--ops", action="store_true", help="record every operation of PyTorch, with its module")
    parser.add_argument("--backward", action="store_true", help="record the gradients of modules and parameters")
    parser.add_argument("-m", dest="module", action="store_true", help="the program is a module, as for python -m")
    parser.add_argument("program", help="the script, or with -m the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the arguments of the program")
    given = parser.parse_args(arguments)
    for name, variable in _VARIABLES.items():
        if getattr(given, name) is not None:
            os.environ[variable] = getattr(given, name)
    if not os.environ.get("BITNET_TRACE_DIR") and not os.environ.get("BITNET_TRACE_PRINT"):
        parser.error("expected --dir or the variable BITNET_TRACE_DIR: there is no directory to record into")
    Follower(ops=given.ops, backward=given.backward).start()
    sys.argv = [given.program, *given.arguments]
    if given.module:
        runpy.run_module(given.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(given.program).resolve().parent)
        runpy.run_path(given.program, run_name="__main__")
