"""Decodes the tokens of another run, so that all steps of the two stay comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ._record import SCOPE

if TYPE_CHECKING:
    import torch

    from ._trace import PathLike

_GENERATED = "generated_tokens"
# Annotations with the tokens that a run was given, the first of which counts.
_GIVEN = ("prompt_tokens", "tokens", "token_ids")
# The most bytes of a `run.json` that are read, as by the reader of traces.
_LARGEST = 64 * 1024 * 1024


class Force:
    """A logits processor that leaves `generate` only the tokens of another run; `force` makes it."""

    def __init__(self, source: str, tokens: list[int], prompt: Optional[list[int]]) -> None:
        self.tokens = tokens
        """The tokens that the other run generated."""
        self.chosen: list[int] = []
        """What the model would have chosen at each step so far: its most likely token, in the first row of a batch."""
        self._source = source
        self._prompt = prompt
        self._prompt_length = 0
        self._last_length: Optional[int] = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Gives the next token of the other run for `input_ids` `[rows, tokens]` and `scores` `[rows, vocabulary]`."""
        length = int(input_ids.shape[-1])
        # Within one `generate`, each call has one token more than the call before.
        if self._last_length is None or length != self._last_length + 1:
            self._check_prompt(input_ids)
            self._prompt_length = length
            self.chosen = []
        self._last_length = length
        step = length - self._prompt_length
        if step >= len(self.tokens):
            message = (
                f"{self._source} has {len(self.tokens)} generated tokens, and `generate` asks for one more: "
                f"pass max_new_tokens={len(self.tokens)}"
            )
            raise ValueError(message)
        token, vocabulary = self.tokens[step], int(scores.shape[-1])
        if token >= vocabulary:
            message = f"{self._source}: `{_GENERATED}`: expected an id below {vocabulary} at index {step}, found {token}"
            raise ValueError(message)
        self.chosen.append(int(scores[0].argmax()))
        self._annotate()
        forced = scores.new_full(scores.shape, float("-inf"))
        forced[:, token] = 0
        return forced

    def _check_prompt(self, input_ids: torch.Tensor) -> None:
        if self._prompt is None:
            return
        for row in input_ids.tolist():
            if row != self._prompt:
                message = (
                    f"{self._source} had another prompt: its tokens are {self._prompt}, those of this run are {row}"
                )
                raise ValueError(message)

    def _annotate(self) -> None:
        capture = SCOPE.get().capture
        if capture is not None and capture.session is not None:
            capture.session.annotate("chosen_tokens", json.dumps(self.chosen))
            capture.session.annotate("forced_from", json.dumps(self._source))


def force(reference: PathLike) -> Force:
    """Makes `generate` decode the tokens of another run, whatever this model would choose.

        forced = bitnet_trace.force("reference")
        with bitnet_trace.capture(model, "mine"):
            model.generate(input_ids, logits_processor=[forced], max_new_tokens=len(forced.tokens))

    `reference` is the trace of that run. Its `run.json` has to name the tokens as the annotation `generated_tokens`, and
    may name those of the prompt as `prompt_tokens`. `forced.chosen` and the annotation `chosen_tokens` say what the
    model would have chosen. An end token ends `generate` as it always does.

    Raises `ValueError` if the trace does not name the tokens, and in `generate` if its prompt is another one, if a token
    is not in the vocabulary, or if there is no token left.
    """
    path = Path(reference)
    path = (path.parent if path.is_file() else path) / "run.json"
    with path.open("rb") as file:
        text = file.read(_LARGEST)
    try:
        run = json.loads(text)
    except ValueError as error:
        message = f"{path}: not JSON: {error}"
        raise ValueError(message) from error
    annotations = run.get("annotations") if isinstance(run, dict) else None
    annotations = annotations if isinstance(annotations, dict) else {}
    tokens = _ids(path, annotations, _GENERATED)
    if not tokens:
        message = (
            f"{path}: the run names no tokens that it generated; expected the annotation `{_GENERATED}`, a list of ids"
        )
        raise ValueError(message)
    prompt = next((ids for ids in (_ids(path, annotations, name) for name in _GIVEN) if ids is not None), None)
    return Force(str(path), tokens, prompt)


def _ids(path: Path, annotations: dict[str, Any], name: str) -> Optional[list[int]]:
    """The token ids of an annotation; `None` if it is not there."""
    value = annotations.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        message = f"{path}: `{name}`: expected a list of token ids, found {json.dumps(value)[:40]}"
        raise ValueError(message)
    for index, token in enumerate(value):
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            message = f"{path}: `{name}`: expected a token id at index {index}, found {json.dumps(token)[:40]}"
            raise ValueError(message)
    return value
