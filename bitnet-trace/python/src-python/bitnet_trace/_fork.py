"""What a forked process inherits: the captures of its parent, whose files and locks are not its own."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Optional

from ._native import Session

if TYPE_CHECKING:
    from ._capture import Capture

# Captures whose block has not ended.
OPEN: weakref.WeakSet[Capture] = weakref.WeakSet()

# Sessions of the parent. To drop one would end the parent's run.
_inherited: list[Optional[Session]] = []


class _Environment:
    """The session that the environment asks for."""

    asked = False
    is_of_parent = False


def environment() -> Optional[Session]:
    """The session of the environment; `None` where it is that of the process that this one was forked from."""
    if _Environment.is_of_parent:
        return None
    _Environment.asked = True
    return Session.environment()


def _after_fork() -> None:
    _Environment.is_of_parent = _Environment.asked
    for capture in list(OPEN):
        _inherited.append(capture.session)
        capture.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
