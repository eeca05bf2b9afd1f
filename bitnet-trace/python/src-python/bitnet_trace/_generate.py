"""Sees what `generate` of transformers is given and returns, while a capture is open.

The function of the class is wrapped, not that of the model: `python -m bitnet_trace` knows a model only when it is
called, and then `generate` is running already.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    import torch

    from ._tokens import Tokens

_GENERATE = "generate"


class _Running(threading.local):
    """The tokens that the outermost `generate` of this thread is followed by; `None` outside."""

    tokens: Optional[tuple[Tokens, ...]] = None


_running = _Running()
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A forked process ends the captures that it inherits, whichever thread held the lock.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
# By the class that has the function: the function, its wrapper, and how many need it.
_wrapped: dict[type, tuple[Any, Any, int]] = {}
# By the id of a model, which its captures keep alive.
_followers: dict[int, tuple[Tokens, ...]] = {}
# What follows the models that no capture names.
_all: list[Tokens] = []


def generating() -> Optional[tuple[Tokens, ...]]:
    """What follows the `generate` that this thread is in; `None` outside of any."""
    return _running.tokens


def follow_generate(model: torch.nn.Module, tokens: Tokens) -> Callable[[], None]:
    """Tells `tokens` of each `generate` of the model, until the function is called that this returns."""
    model = getattr(model, "_orig_mod", model)
    kind = _wrap(type(model))
    with _lock:
        _followers[id(model)] = (*_followers.get(id(model), ()), tokens)

    def undo() -> None:
        with _lock:
            left = list(_followers.get(id(model), ()))
            if tokens in left:
                left.remove(tokens)
            _followers[id(model)] = tuple(left)
            if not left:
                del _followers[id(model)]
            _unwrap(kind)

    return undo


def follow_every_generate(tokens: Callable[[], Optional[Tokens]]) -> None:
    """Tells the tokens of each `generate` of every model that is made from now on."""
    import torch

    original, known = torch.nn.Module.__init__, set[type]()
    is_compiling = torch.compiler.is_compiling

    @functools.wraps(original)
    def init(module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        if not is_compiling() and type(module) not in known:
            known.add(type(module))
            _wrap(type(module))
            if not _all:
                _all.extend(one for one in (tokens(),) if one is not None)
        original(module, *args, **kwargs)

    torch.nn.Module.__init__ = init  # type: ignore[assignment,method-assign]


def _wrap(model: type) -> Optional[type]:
    """Wraps `generate`, if the class has it. Returns the class that defines it."""
    kind = next((kind for kind in model.__mro__ if _GENERATE in vars(kind)), None)
    if kind is None:
        return None
    with _lock:
        if kind in _wrapped:
            function, wrapper, users = _wrapped[kind]
        else:
            function, users = vars(kind)[_GENERATE], 0
            if not inspect.isfunction(function):
                return None
            wrapper = _wrapper(function)
            setattr(kind, _GENERATE, wrapper)
        _wrapped[kind] = (function, wrapper, users + 1)
    return kind


def _unwrap(kind: Optional[type]) -> None:
    if kind is None:
        return
    function, wrapper, users = _wrapped[kind]
    if users > 1:
        _wrapped[kind] = (function, wrapper, users - 1)
        return
    del _wrapped[kind]
    # What the program has put there meanwhile stays.
    if vars(kind).get(_GENERATE) is wrapper:
        setattr(kind, _GENERATE, function)


def _wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    is_compiling = torch.compiler.is_compiling

    @functools.wraps(function)
    def generate(model: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if is_compiling() or _running.tokens is not None:
            return function(model, *args, **kwargs)
        followers = tuple(dict.fromkeys((*_followers.get(id(model), ()), *_all)))
        if not followers:
            return function(model, *args, **kwargs)
        for tokens in followers:
            tokens.begin_generate(model, args, kwargs)
        _running.tokens = followers
        try:
            result = function(model, *args, **kwargs)
        finally:
            _running.tokens = None
        for tokens in followers:
            tokens.end_generate(result)
        return result

    return generate
