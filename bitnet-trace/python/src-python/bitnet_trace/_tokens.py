"""Names in `run.json` the tokens that a model computed: `prompt_tokens` and `generated_tokens`.

A list that is wrong is worse than none: `bitnet-trace sweep` would blame the tokens for what a stage computed, and
`--force` would decode something else. So the lists are those of one sequence, whose tokens are known:

* `generate` of transformers returns them.
* In a loop of the program, each step reads one more token. Only if each is the most likely one of the step before is it
  certain that the model chose it, and that it is not a part of the prompt. Then the last one that was chosen, which no
  step reads, is known as well.

Of several sequences, of a batch, and of anything else, the lists become null, which readers take as not there.
"""

from __future__ import annotations

import contextlib
import json
import threading
from enum import Enum
from typing import TYPE_CHECKING, Any, Optional

from ._tensor import INSIDE, why_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from ._native import Session

PROMPT = "prompt_tokens"
GENERATED = "generated_tokens"
# Of ids: rows, tokens.
_DIMENSIONS = 2


class _State(Enum):
    NOTHING = "no token was seen"
    LOOP = "the program calls the model for one sequence"
    GENERATE = "`generate` was called"
    UNKNOWN = "the tokens are not those of one sequence"


class Tokens:
    """The tokens that the models of a session computed. None of its methods fails."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._state = _State.NOTHING
        self._prompt: list[int] = []
        self._generated: list[int] = []
        self._likely: Optional[int] = None
        self._reading = False
        self._calls = 0
        self._named: set[str] = set()
        self.by_program: set[str] = set()
        """What the program has annotated itself: that counts."""

    def begin_call(self, ids: Any, past: Optional[int]) -> None:
        """Notes the ids `[rows, tokens]` of a call, and how many tokens its cache has; `None` without a cache."""
        with self._guard():
            # A model that reads no tokens at all: a tower for images, a loss.
            if self._state is _State.UNKNOWN or _is_float(ids):
                return
            tokens = _row(ids)
            likely, self._likely = self._likely, None
            if tokens is None or self._state is _State.GENERATE:
                self._forget()
            elif self._state is _State.NOTHING and not past:
                self._state, self._prompt = _State.LOOP, tokens
                self._name(PROMPT, tokens)
            elif len(tokens) == 1 and tokens[0] == likely and past in (None, self._read()):
                self._generated.append(tokens[0])
            else:
                self._forget()
            self._reading = self._state is _State.LOOP

    def end_call(self, output: Any) -> None:
        """Notes the most likely next token of what a call returned: logits `[1, tokens, vocabulary]`."""
        with self._guard():
            reading, self._reading = self._reading, False
            if not reading:
                return
            self._likely = _most_likely(output)
            if self._likely is not None and self._generated:
                self._name(GENERATED, [*self._generated, self._likely])

    def call_in_generate(self, ids: Any) -> None:
        """Notes a call that `generate` makes. With several rows, not each step reads the token that was chosen."""
        with self._guard():
            self._calls += 1
            if getattr(ids, "ndim", 0) != _DIMENSIONS or ids.shape[0] != 1:
                self._forget()

    def begin_generate(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Notes that `generate` begins."""
        with self._guard():
            given = args[0] if args else kwargs.get("inputs")
            tokens = _row(kwargs.get("input_ids") if given is None else given)
            translates = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
            unknown = tokens is None or translates or kwargs.get("inputs_embeds") is not None
            if unknown or self._state is not _State.NOTHING:
                self._forget()
                return
            self._state, self._prompt = _State.GENERATE, tokens or []
            self._name(PROMPT, self._prompt)

    def end_generate(self, result: Any) -> None:
        """Notes what `generate` returned: the sequence `[1, tokens]`, the prompt included, or an object that has it."""
        with self._guard():
            if self._state is not _State.GENERATE:
                return
            tokens, length = _row(getattr(result, "sequences", result)), len(self._prompt)
            if tokens is None or tokens[:length] != self._prompt or not self._calls:
                self._forget()
            elif len(tokens) > length:
                self._name(GENERATED, tokens[length:])

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock, INSIDE:
            try:
                yield
            except Exception:  # noqa: BLE001 - tracing never fails the program
                with contextlib.suppress(Exception):
                    self._forget()

    def _read(self) -> int:
        """The number of tokens that the calls have read."""
        return len(self._prompt) + len(self._generated)

    def _name(self, key: str, tokens: list[int]) -> None:
        if key not in self.by_program:
            self._named.add(key)
            self._session.annotate(key, json.dumps(tokens))

    def _forget(self) -> None:
        self._state = _State.UNKNOWN
        for key in self._named - self.by_program:
            self._session.annotate(key, "null")


_environment: list[Tokens] = []


def of_environment(session: Session) -> Tokens:
    """The tokens of the session that the environment asks for, which all captures without a directory share."""
    if not _environment:
        _environment.append(Tokens(session))
    return _environment[0]


def _is_tracing() -> bool:
    import torch

    return bool(torch._C._is_tracing())


def _is_float(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _row(ids: Any) -> Optional[list[int]]:
    """The ids of one row; `None` if this is anything else."""
    import torch

    if type(ids) is not torch.Tensor or ids.ndim != _DIMENSIONS or ids.shape[0] != 1 or not ids.shape[1]:
        return None
    if ids.dtype not in (torch.int64, torch.int32) or _is_tracing() or why_unreadable(ids) is not None:
        return None
    return [int(token) for token in ids[0].tolist()]


def _most_likely(output: Any) -> Optional[int]:
    """The most likely token after the last one; `None` if these are not the logits of one row."""
    import torch

    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) and output else output)
    if type(logits) is not torch.Tensor or logits.ndim not in (2, 3) or logits.shape[0] != 1:
        return None
    if not logits.is_floating_point() or _is_tracing() or why_unreadable(logits) is not None:
        return None
    with torch.no_grad():
        return int(logits.detach().reshape(-1, logits.shape[-1])[-1].argmax())
