"""The operations of PyTorch below the modules, recorded by a dispatch mode.

What is recorded is what PyTorch's `DebugMode` hashes: the results of every operation, views included, but not
uninitialized memory (`empty`), markers of the profiler and fake tensors. Left out besides are views of parameters (each
linear layer transposes its weight), and collectives that may still be running. An operation without a result is
recorded by the arguments that it writes.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Callable, Optional

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from ._hook import Hook
from ._native import Site
from ._outputs import tensors
from ._tensor import INSIDE, record_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.hooks import RemovableHandle

    from ._native import Recorder
    from ._stages import ModuleStage

# Where in the forward pass each node of the graph was made is kept for as many changes of the module.
_MOST_CHANGES = 1 << 20
# The node that adds to the gradient of a parameter has the largest number.
_NO_MODULE = 1 << 62
# Results of these are complete only once `wait_tensor` returns.
_COLLECTIVES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "c10d_functional")


class Frame:
    """A module whose operations are recorded."""

    def __init__(self, name: str, stage: str, layer: Optional[int]) -> None:
        self.name = name
        self.stage = stage
        self.layer = layer
        self.sites: dict[tuple[str, str], Site] = {}


class _Modules(threading.local):
    """The modules that a thread is in, outermost first, each with the backward pass that it was called in."""

    def __init__(self) -> None:
        self.stack: list[tuple[Frame, int]] = []


class Operations:
    """The operations of one capture."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._outside = Frame("", "", None)
        self._modules = _Modules()
        self._thread = threading.get_ident()
        # The module that runs from each number of a graph's node on.
        self._numbers: list[int] = []
        self._frames: list[Optional[Frame]] = []

    def frame(self, name: str, path: str, stage: ModuleStage) -> Frame:
        """Makes the frame of a module."""
        return Frame(name, stage.of(0) or _within(path, stage.layer) or name, stage.layer)

    def hook(self, module: torch.nn.Module, frame: Frame) -> list[RemovableHandle]:
        """Follows the calls of a module."""
        is_compiling = torch.compiler.is_compiling

        def before(*_: Any) -> None:
            if not is_compiling():
                self._guarded(self.enter, frame)

        def after(*_: Any) -> None:
            if not is_compiling():
                self._guarded(self.leave, frame)

        return [
            module.register_forward_pre_hook(Hook(before), prepend=True),
            module.register_forward_hook(Hook(after), always_call=True),
        ]

    @contextlib.contextmanager
    def inside(self, frame: Frame) -> Iterator[None]:
        """Follows one call of a module."""
        self._guarded(self.enter, frame)
        try:
            yield
        finally:
            self._guarded(self.leave, frame)

    def _guarded(self, change: Callable[[Frame], None], frame: Frame) -> None:
        try:
            change(frame)
        except Exception as error:  # noqa: BLE001 - tracing never fails the model
            self.lose(frame.name, error)

    def enter(self, frame: Frame) -> None:
        """Notes that a module begins."""
        self._modules.stack.append((frame, torch._C._current_graph_task_id()))
        self._changed(frame)

    def leave(self, frame: Frame) -> None:
        """Notes that a module has ended, and with it those inside it that ended by an exception."""
        stack = self._modules.stack
        for index in reversed(range(len(stack))):
            if stack[index][0] is frame:
                del stack[index:]
                break
        self._changed(stack[-1][0] if stack else None)

    def _changed(self, frame: Optional[Frame]) -> None:
        # The numbers count the nodes of a thread.
        if not torch.is_grad_enabled() or threading.get_ident() != self._thread:
            return
        number = torch._C._autograd._get_sequence_nr()
        if self._numbers and self._numbers[-1] >= number:
            self._frames[-1] = frame
            return
        if len(self._numbers) >= _MOST_CHANGES:
            del self._numbers[: _MOST_CHANGES // 2], self._frames[: _MOST_CHANGES // 2]
        self._numbers.append(number)
        self._frames.append(frame)

    def where(self) -> tuple[Optional[Frame], bool]:
        """The module that the operation of now runs in, and whether it is one of the backward pass.

        There it is the module that made the node of the graph.
        """
        stack = self._modules.stack
        node = torch._C._current_autograd_node()
        # A module that was called inside the backward pass is a checkpoint that is computed again.
        if node is None or (stack and stack[-1][1] == torch._C._current_graph_task_id()):
            return (stack[-1][0] if stack else None), False
        number = node._sequence_nr()
        index = bisect_right(self._numbers, number) - 1
        return (self._frames[index] if index >= 0 and number < _NO_MODULE else None), True

    def record(self, operation: str, results: Any, frame: Optional[Frame]) -> None:
        """Records the tensors in the results of an operation, with the module that it ran in."""
        for label, tensor in tensors(results):
            record_array(self._site(frame or self._outside, operation, label), tensor)

    def lose(self, operation: str, error: Exception) -> None:
        """Counts an operation that could not be recorded."""
        site = self._site(self._outside, operation, "")
        site.lose(f"an operation is not recorded: {type(error).__name__}", f"{operation}: {error}")

    def _site(self, frame: Frame, operation: str, label: str) -> Site:
        site = frame.sites.get((operation, label))
        if site is None:
            output = label or None
            if frame is self._outside:
                site = Site(self._recorder, None, operation, output=output)
            else:
                name = f"{frame.name}/{operation}{'.' if label else ''}{label}"
                site = Site(self._recorder, name, f"{frame.stage}/{operation}", frame.layer, output)
            frame.sites[operation, label] = site
        return site


def _within(path: str, layer: Optional[int]) -> str:
    """The path of a module inside its layer: that is `mlp` for `model.layers.3.mlp`."""
    parts = path.split(".")
    return ".".join(parts[parts.index(str(layer)) + 1 :]) if str(layer) in parts else path


class OperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows each operation of its threads to the captures that are open."""

    # Without this, an operation that calls functions (`cond`) fails under a mode.
    supports_higher_order_operators = True

    def __init__(self, *, one_session: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.captures: list[Operations] = []
        self._one_session = one_session
        self._kinds: dict[Any, _Kind] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Lets `torch.compile` compile as without the mode."""
        return True

    def start(self) -> None:
        """Shows the operations of this thread from now on."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Shows no more of them. The mode must be the innermost one of the thread."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Optional[dict[str, Any]] = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.captures and not INSIDE.depth:
            try:
                self._show(func, types, args, kwargs or {}, result)
            except Exception as error:  # noqa: BLE001 - tracing never fails the model
                self.captures[0].lose(str(func), error)
        return result

    def _show(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _Kind(func)
        if kind.left_out or any(type_.__name__ == "FakeTensor" for type_ in types) or _is_faked():
            return
        if kind.is_view and args and _is_parameter(args[0]):
            return
        if kind.written and (result is None or (isinstance(result, (tuple, list)) and not result)):
            result = kind.written_in(args, kwargs)
        places = [(capture, *capture.where()) for capture in self.captures]
        if self._one_session:
            # One capture has the operation: that of the innermost module, or the first.
            places = [place for place in places if place[1] is not None][-1:] or places[:1]
        for capture, frame, backward in places:
            capture.record(f"backward.{kind.name}" if backward else kind.name, result, frame)


def _is_parameter(tensor: Any) -> bool:
    """Whether a tensor is a parameter, or a view of one."""
    return isinstance(tensor, torch.nn.Parameter) or isinstance(getattr(tensor, "_base", None), torch.nn.Parameter)


def _is_faked() -> bool:
    return type(_get_current_dispatch_mode()).__name__ == "FakeTensorMode"


class _Kind:
    """What is known of an operation before it runs."""

    def __init__(self, func: Any) -> None:
        schema = getattr(func, "_schema", None)
        self.name = schema.name.replace("::", ".") if schema else f"{getattr(func, 'namespace', 'torch')}.{func}"
        namespace, _, name = self.name.partition(".")
        waits = name == "wait_tensor"
        self.left_out = "empty" in name or namespace == "profiler" or (namespace in _COLLECTIVES and not waits)
        arguments = list(enumerate(schema.arguments)) if schema else []
        changed = [(index, argument.name) for index, argument in arguments if _is_written(argument)]
        self.written = changed
        """Place and name of the arguments that the operation writes."""
        self.is_view = bool(getattr(func, "is_view", False))

    def written_in(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the operation has written."""
        return {name: args[index] if index < len(args) else kwargs.get(name) for index, name in self.written}


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


class _Thread(threading.local):
    mode: Optional[OperationMode] = None


_thread = _Thread()


@contextlib.contextmanager
def follow_operations(operations: Operations, mode: Optional[OperationMode]) -> Iterator[None]:
    """Records the operations of this thread; with a mode that is on already, those that it sees."""
    own = mode is None
    mode = _mode_of_thread() if mode is None else mode
    mode.captures.append(operations)
    try:
        yield
    finally:
        mode.captures.remove(operations)
        # Another mode may stand above it. Then it stays and shows nothing: to leave it would end the other one.
        if own and not mode.captures and _get_current_dispatch_mode() is mode:
            mode.end()
            _thread.mode = None


def _mode_of_thread() -> OperationMode:
    """All captures of a thread share a mode, so that they may end in any order."""
    if _thread.mode is None:
        _thread.mode = OperationMode()
        _thread.mode.start()
    return _thread.mode
