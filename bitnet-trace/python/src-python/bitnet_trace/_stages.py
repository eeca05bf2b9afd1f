"""The stage and the layer of modules, by the rules of `--map`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Union

from . import _native

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._compare import Map


@dataclass(frozen=True)
class ModuleStage:
    """What the rules make of a module."""

    rules: tuple[tuple[Optional[int], Optional[str], Optional[int], bool], ...]
    """Number of the tensor, stage, layer, and whether a comparison needs the stage on both sides to look at it.

    Without rules, the records keep the module's name.
    """

    @property
    def ignored(self) -> bool:
        """Whether none of the module's tensors has a stage of its own."""
        return bool(self.rules) and all(stage is None or optional for _, stage, _, optional in self.rules)

    @property
    def layer(self) -> Optional[int]:
        """The layer that the name holds."""
        return self.rules[0][2] if self.rules else None

    def of(self, tensor: int) -> Optional[str]:
        """The stage of the n-th tensor that the module returns; `None` if it has none."""
        return self._rule(tensor)[0]

    def leaves_out(self, tensor: int) -> bool:
        """Whether the n-th tensor that the module returns is left out."""
        stage, optional = self._rule(tensor)
        return bool(self.rules) and (stage is None or optional)

    def _rule(self, tensor: int) -> tuple[Optional[str], bool]:
        fitting = ((stage, optional) for call, stage, _, optional in self.rules if call is None or call == tensor)
        return next(fitting, (None, False))


def stages(names: Iterable[str], map: Map = "hf") -> dict[str, ModuleStage]:  # noqa: A002 - the command's name for it
    """Says which stage and layer `capture` gives to modules of these names.

    All names of a model belong into one call, because a rule may ask for what stands beside a module.
    """
    names = list(names)
    maps = _maps(map)
    return {name: ModuleStage(tuple(rules)) for name, rules in zip(names, _native.map_targets(maps, names))}


def _maps(map: Map) -> list[str]:  # noqa: A002
    one: Union[Sequence[Union[str, os.PathLike[str]]], None]
    one = [map] if isinstance(map, (str, os.PathLike)) else map
    return [os.fspath(path) for path in one or ()]
