"""What happens inside attention between its modules: the rotated query and key, the probabilities.

The functions that compute them are globals of the file that defines the attention module. While a capture is open,
functions around them stand in their place.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

from ._hook import Hook
from ._native import Site
from ._tensor import record_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import torch

    from ._native import Recorder

_ROTARY = "apply_rotary_pos_emb"
_EAGER = "eager_attention_forward"


class AttentionSites:
    """The places that record inside one attention module."""

    def __init__(self, recorder: Recorder, path: str, layer: Optional[int]) -> None:
        self.q_rope, self.k_rope, self.probabilities = (
            Site(recorder, f"{path}.{stage}", stage, layer) for stage in ("q_rope", "k_rope", "attn_scores_softmax")
        )


class _Running(threading.local):
    """The attention modules that this thread is in, outermost first."""

    def __init__(self) -> None:
        self.modules: list[tuple[torch.nn.Module, AttentionSites]] = []

    def innermost(self) -> list[AttentionSites]:
        """The places of the innermost module; several, if several captures follow it."""
        return [sites for module, sites in self.modules if module is self.modules[-1][0]]


_running = _Running()
_lock = threading.Lock()
# How many captures need a function around a global, by the dictionary of globals and the name.
_users: dict[tuple[str, str], int] = {}


@contextlib.contextmanager
def follow_attention(module: torch.nn.Module, sites: AttentionSites) -> Iterator[None]:
    """Records inside an attention module, if the file that defines it has the functions for it."""
    file = sys.modules.get(type(module).__module__)
    if file is None or not (hasattr(file, _ROTARY) or hasattr(file, _EAGER)):
        yield
        return

    def enter(*_: Any) -> None:
        _running.modules.append((module, sites))

    def leave(*_: Any) -> None:
        for index in reversed(range(len(_running.modules))):
            if _running.modules[index][1] is sites:
                del _running.modules[index:]
                return

    handles = [
        module.register_forward_pre_hook(_unless_compiling(enter), prepend=True),
        module.register_forward_hook(_unless_compiling(leave), always_call=True),
    ]
    try:
        with _around(file, _ROTARY, _rotated), _around(file, _EAGER, _attended):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _unless_compiling(hook: Callable[..., None]) -> Hook:
    import torch

    is_compiling = torch.compiler.is_compiling

    def guarded(*args: Any) -> None:
        if not is_compiling():
            hook(*args)

    return Hook(guarded)


@contextlib.contextmanager
def _around(file: ModuleType, name: str, after: Callable[[AttentionSites, Any], None]) -> Iterator[None]:
    """Calls `after` with what a global function of a file returns."""
    key = (file.__name__, name)
    with _lock:
        original = getattr(file, name, None)
        if callable(original):
            _users[key] = _users.get(key, 0) + 1
            if _users[key] == 1:
                setattr(file, name, _observed(original, after))
    try:
        yield
    finally:
        with _lock:
            if callable(original):
                _users[key] -= 1
                ours = getattr(getattr(file, name, None), "_bitnet_trace_original", None)
                if _users[key] == 0 and ours is not None:
                    setattr(file, name, ours)


def _observed(original: Callable[..., Any], after: Callable[[AttentionSites, Any], None]) -> Callable[..., Any]:
    import torch

    is_compiling = torch.compiler.is_compiling

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not is_compiling() and _running.modules:
            for sites in _running.innermost():
                try:
                    after(sites, result)
                except Exception as error:  # noqa: BLE001 - tracing never fails the model
                    sites.q_rope.lose(f"a hook failed: {type(error).__name__}", str(error))
        return result

    observed._bitnet_trace_original = original  # type: ignore[attr-defined]
    return observed


def _rotated(sites: AttentionSites, result: Any) -> None:
    if isinstance(result, tuple) and len(result) == 2:  # noqa: PLR2004 - query and key
        record_array(sites.q_rope, result[0])
        record_array(sites.k_rope, result[1])


def _attended(sites: AttentionSites, result: Any) -> None:
    if isinstance(result, tuple) and len(result) > 1 and result[1] is not None:
        record_array(sites.probabilities, result[1])
