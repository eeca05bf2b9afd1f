"""The step and the token positions of each call of a model."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Optional

from ._record import SCOPE, Scope

if TYPE_CHECKING:
    import torch

    from ._native import Recorder

# How transformers calls the cache, in versions after and before 5.24.
_CACHES = ("cache", "past_key_values")
_NOT_IDS = ("inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
_INPUTS = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")


class _OfThread(threading.local):
    """The calls of one thread; `None` before its first."""

    next: Optional[int] = None
    now: Optional[Scope] = None


class Steps:
    """Counts the calls of a model, those of each thread by themselves: threads may share a model.

    A call with an empty cache is step 0, and each call after it one more. A model that takes no cache is counted from
    its first call, and so is any model in training, where each call begins a sequence. The first call of a thread
    goes on from the latest call of all, so that a program may hand its model to another thread.
    """

    def __init__(self, model: torch.nn.Module, *, training: bool) -> None:
        self._parameters = _parameters(model)
        self._takes_cache = not training and any(name in self._parameters for name in _CACHES)
        self._recorder: Optional[Recorder] = None
        self._latest_next = 0
        self._latest = Scope()
        self._own = _OfThread()

    @property
    def now(self) -> Scope:
        """The step of this thread's latest call; if it made none, of the latest call of all."""
        return self._own.now or self._latest

    def start(self, recorder: Recorder) -> None:
        """Sets the recorder that is told of each step."""
        self._recorder = recorder

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Optional[int]:
        """Notes that a call of the model begins. Returns how many tokens its cache has; `None` if it takes no cache."""
        named = {**dict(zip(self._parameters, args)), **kwargs}
        past = next((_length(named[name]) for name in _CACHES if named.get(name) is not None), 0)
        around = SCOPE.get()
        if around.seq is not None:
            seq = around.seq
        elif self._takes_cache and past == 0:
            seq = 0
        else:
            seq = self._latest_next if self._own.next is None else self._own.next
        if self._takes_cache and past and seq == 0 and around.seq is None:
            # The prefill came before the capture.
            seq = 1
        self._latest_next = self._own.next = seq + 1
        tokens = around.tokens or _positions(named, past)
        self._latest = self._own.now = Scope(None, seq, around.layer, around.request, tokens)
        if self._recorder is not None:
            self._recorder.set_step(seq, around.layer, around.request, tokens)
        return past if self._takes_cache else None

    def ids(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The token ids that a call is given: `input_ids`, or else the first argument. `None` if there are none."""
        named = {**dict(zip(self._parameters, args)), **kwargs}
        if any(named.get(name) is not None for name in _NOT_IDS):
            return None
        return named["input_ids"] if "input_ids" in named else next(iter(named.values()), None)


def _parameters(model: torch.nn.Module) -> tuple[str, ...]:
    model = getattr(model, "_orig_mod", model)
    try:
        return tuple(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return ()


def _length(cache: Any) -> int:
    """The number of tokens in a cache of transformers: an object, or a tuple of keys and values for each layer."""
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    if isinstance(cache, (tuple, list)) and cache and isinstance(cache[0], (tuple, list)):
        return int(cache[0][0].shape[-2])
    return 0


def _positions(named: dict[str, Any], past: int) -> Optional[tuple[int, int]]:
    positions = named.get("cache_position")
    if positions is not None and positions.numel():
        return int(positions[0]), int(positions[-1]) + 1
    for name in _INPUTS:
        shape = getattr(named.get(name), "shape", None)
        if shape is not None and len(shape) > 1:
            return past, past + int(shape[1])
    return None
