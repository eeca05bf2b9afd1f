"""Records of single arrays, and the scope that they belong to."""

from __future__ import annotations

import contextlib
import json
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional, Union

from ._fork import environment
from ._native import Site
from ._tensor import INSIDE, record_array
from ._tokens import of_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._capture import Capture

Tokens = Union[range, "tuple[int, int]"]


@dataclass(frozen=True)
class Scope:
    """What a task or thread is working on."""

    capture: Optional[Capture] = None
    seq: Optional[int] = None
    layer: Optional[int] = None
    request: Optional[int] = None
    tokens: Optional[tuple[int, int]] = None


SCOPE: ContextVar[Scope] = ContextVar("bitnet_trace_scope", default=Scope())  # noqa: B039 - it is frozen


@contextlib.contextmanager
def scope(
    seq: Optional[int] = None,
    layer: Optional[int] = None,
    request: Optional[int] = None,
    tokens: Optional[Tokens] = None,
) -> Iterator[None]:
    """Gives the records inside a step, a layer, a request and token positions.

    Nested scopes override only what they set. A scope belongs to its thread or asynchronous task. `seq` is 0 for the
    prefill, then 1, 2, ... for the decode steps; `tokens` is a range of positions, the end excluded.
    """
    changes: dict[str, Any] = {"seq": seq, "layer": layer, "request": request}
    if tokens is not None:
        changes["tokens"] = (tokens.start, tokens.stop) if isinstance(tokens, range) else tuple(tokens)
    with entered(replace(SCOPE.get(), **{name: value for name, value in changes.items() if value is not None})):
        yield


def open_capture() -> Optional[Capture]:
    """The innermost capture of this thread or task whose block has not ended. Blocks may end in any order."""
    capture = SCOPE.get().capture
    while capture is not None and capture.has_ended:
        capture = capture.around
    return capture


@contextlib.contextmanager
def entered(inner: Scope) -> Iterator[None]:
    """Makes a scope that of this thread or task."""
    token = SCOPE.set(inner)
    try:
        yield
    finally:
        leave_scope(token)


def leave_scope(token: Token[Scope]) -> None:
    """Makes the scope around a scope that of this thread or task again."""
    # Another context may leave the scope: a generator that is closed elsewhere. Then there is nothing to restore.
    with contextlib.suppress(ValueError):
        SCOPE.reset(token)


def record(
    name: str,
    array: Any,
    *,
    seq: Optional[int] = None,
    layer: Optional[int] = None,
    stage: Optional[str] = None,
) -> None:
    """Records an array into the capture around it, or into the directory that `BITNET_TRACE_DIR` names.

    The array may be of numpy or torch, or support DLPack or the buffer protocol. `name` is the stage, and the record's
    name is made of step, layer and stage (`t0/blk3/q_proj`). If a `stage` is given as well, the name stays as it is.
    What is not given comes from the scope. It never fails: what cannot be read is counted as lost.
    """
    here = SCOPE.get()
    capture = open_capture()
    session = environment() if capture is None else capture.session
    if session is None:
        return
    around = Scope() if capture is None else capture.step
    recorder = session.recorder()
    try:
        recorder.set_step(
            _first(seq, here.seq, around.seq),
            _first(layer, here.layer, around.layer),
            _first(here.request, around.request),
            here.tokens or around.tokens,
        )
        site = Site(recorder, None, name) if stage is None else Site(recorder, name, stage)
    except Exception as error:  # noqa: BLE001 - tracing never fails the program
        session.lose(f"the name or the step of a record is not valid: {type(error).__name__}", f"{name!r}: {error}")
        return
    record_array(site, array)


def annotate(key: str, value: Any) -> None:
    """Puts a value into the annotations of `run.json`: of the capture around it, or of the environment's session.

        bitnet_trace.annotate("generated_tokens", tokens)

    The value is one that JSON has, or an array or a tensor, which becomes a list. A second value of the same key
    replaces the first, and one that `capture` annotates itself. Without a session nothing happens. It never fails: a
    value that JSON does not have (NaN too) is counted as lost, and the message names the key.
    """
    capture = open_capture()
    session = environment() if capture is None else capture.session
    if session is None:
        return
    try:
        with INSIDE:
            text = json.dumps(value, allow_nan=False, default=_as_list)
        session.annotate(key, text)
        tokens = of_environment(session) if capture is None else capture.tokens
        if tokens is not None:
            tokens.by_program.add(key)
    except Exception as error:  # noqa: BLE001 - tracing never fails the program
        session.lose("cannot annotate a value", f"`{key}`: {error}")


def _as_list(value: Any) -> Any:
    """What `json` does not know: an array, a tensor, or one element of them."""
    if not hasattr(value, "tolist"):
        message = f"expected a value that JSON has, found one of type {type(value).__name__}"
        raise TypeError(message)
    return value.tolist()


def _first(*values: Optional[int]) -> Optional[int]:
    return next((value for value in values if value is not None), None)
