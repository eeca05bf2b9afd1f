"""Hooks that stay with the model that they were set on."""

from __future__ import annotations

import contextlib
from typing import Any, Callable


class Hook:
    """A hook of a module. In a copy of the module, and in a file of it, is one that does nothing.

    What is copied and saved in its place is a function of the standard library: the file needs nothing of this package.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> None:
        """Calls the function with what the module gives to a hook."""
        self._function(*args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        """Leaves the capture behind."""
        # It takes any arguments and returns `None`.
        return getattr, (contextlib.nullcontext(), "__exit__")
