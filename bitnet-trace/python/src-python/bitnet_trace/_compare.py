"""Comparisons of two traces."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from . import _native
from ._trace import PathLike, Trace

Map = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]], None]

# A notebook keeps what it shows in its file: characters of HTML.
_MOST_IN_NOTEBOOK = 4 << 20
# The frame can be dragged longer.
_FRAME = (
    "box-sizing: border-box; width: 100%; height: 44em; resize: vertical; overflow: auto; "
    "border: 1px solid rgba(128, 128, 128, 0.4); border-radius: 4px"
)


@dataclass(frozen=True)
class Pair:
    """Two records with the same key, or a record without a partner."""

    name: str
    verdict: str
    compared: bool
    seq: Optional[int]
    layer: Optional[int]
    stage: str
    details: dict[str, Any]
    """Everything that `bitnet-trace diff --json` says of the pair."""

    @property
    def matches(self) -> bool:
        """Whether the two are identical or within the tolerance."""
        return self.verdict in ("identical", "within")


class Comparison:
    """The result of comparing two traces. `str()` is the screen of `bitnet-trace diff`."""

    def __init__(self, native: _native.Comparison) -> None:
        self._native = native
        self._content: Optional[dict[str, Any]] = None

    @property
    def content(self) -> dict[str, Any]:
        """Everything that `bitnet-trace diff --json` says."""
        if self._content is None:
            self._content = json.loads(self._native.json())
        return self._content

    @property
    def matches(self) -> bool:
        """Whether all was read and compared, every pair matches and every record has a partner."""
        return self._native.matches

    @property
    def conclusion(self) -> str:
        """`matches`, `differs`, `missing`, `not-all-compared`, `not-all-read` or `nothing-compared`."""
        return str(self.content["conclusion"])

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, in execution order."""
        return [_pair(pair) for pair in self.content["pairs"]]

    @property
    def first(self) -> Optional[Pair]:
        """The first pair of two records that do not match."""
        first = self.content["first"]
        return None if first is None else _pair(self.content["pairs"][first])

    def assert_match(self) -> None:
        """Raises `AssertionError` with the screen unless the traces match."""
        if not self.matches:
            message = f"the traces do not match\n\n{self}"
            raise AssertionError(message)

    def html(self) -> str:
        """The report as one HTML page that needs no network."""
        return self._native.html()

    def _repr_html_(self) -> str:
        """The report for a notebook, in a frame of its own: what a trace holds cannot reach the notebook."""
        page = self.html()
        if len(page) > _MOST_IN_NOTEBOOK:
            hint = "The report is too large for a notebook: write <code>html()</code> to a file."
            return f"<pre>{html.escape(str(self))}</pre><p>{hint}</p>"
        page = html.escape(page, quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="bitnet-trace diff" style="{_FRAME}"></iframe>'

    def __str__(self) -> str:
        return self._native.screen(all=False)

    def __repr__(self) -> str:
        return f"<Comparison: {self.conclusion}>"


def _pair(pair: dict[str, Any]) -> Pair:
    named = {name: pair[name] for name in ("name", "verdict", "compared", "seq", "layer", "stage")}
    return Pair(details=pair, **named)


def diff(
    reference: Union[PathLike, Trace],
    trace: Union[PathLike, Trace],
    map: Map = None,  # noqa: A002 - the command's name for it
    tolerance: Union[float, PathLike, None] = None,
    *,
    only_common: bool = False,
) -> Comparison:
    """Compares two traces, given as directories, `.jsonl` files or `Trace` objects.

    `map` has presets (`hf`, `llama.cpp`) or TOML files that map the names of other programs to stages. `tolerance` is
    the relative L2 error that is allowed for every record, or a TOML file with rules; without it, each type of elements
    has its default. `only_common` ignores records that only one side has.
    """
    maps = [os.fspath(map)] if isinstance(map, (str, os.PathLike)) else [os.fspath(one) for one in map or ()]
    limit = float(tolerance) if isinstance(tolerance, (int, float)) else None
    rules = tolerance if isinstance(tolerance, (str, os.PathLike)) else None
    if not isinstance(reference, Trace) and not isinstance(trace, Trace):
        return Comparison(_native.diff_paths(reference, trace, maps, limit, rules, only_common))
    sides = [side if isinstance(side, Trace) else Trace.open(side) for side in (reference, trace)]
    names = (sides[0]._name, sides[1]._name)
    return Comparison(_native.diff(sides[0]._native, sides[1]._native, names, maps, limit, rules, only_common))


def assert_match(
    reference: Union[PathLike, Trace],
    trace: Union[PathLike, Trace],
    map: Map = None,  # noqa: A002 - the command's name for it
    tolerance: Union[float, PathLike, None] = None,
    *,
    only_common: bool = False,
) -> None:
    """Raises `AssertionError`, with the screen of the first divergence, unless two traces match."""
    __tracebackhide__ = True
    diff(reference, trace, map, tolerance, only_common=only_common).assert_match()
