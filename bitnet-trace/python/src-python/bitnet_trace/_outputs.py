"""The tensors in what a module returns, each with the place that records it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional

from ._native import Site
from ._tensor import record_array

if TYPE_CHECKING:
    import torch

    from ._gradients import Gradients
    from ._native import Recorder
    from ._stages import ModuleStage

# Outputs that nest deeper, or hold more tensors, are recorded up to here.
_DEEPEST = 8
_MOST_TENSORS = 1000

Hook = Callable[["torch.nn.Module", Any, Any], None]


class HookSites:
    """The places that record the tensors of one module, and with `gradients` their gradients."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        stage: ModuleStage,
        *,
        keep_all: bool,
        gradients: Optional[Gradients] = None,
    ) -> None:
        self._recorder = recorder
        self._name = name
        self._stage = stage
        self._keep_all = keep_all
        self._gradients = gradients
        self._sites: dict[tuple[int, str], Site] = {}
        self._first = self._site(0, "")

    def _site(self, number: int, label: str) -> Site:
        """The place of the n-th tensor. The tensor of a stage that a rule names has no label."""
        found = self._sites.get((number, label))
        if found is None:
            stage = self._stage.of(number)
            name = self._name_of(number, label)
            found = Site(self._recorder, name, stage, self._stage.layer, self._label_of(number, label))
            self._sites[(number, label)] = found
        return found

    def _label_of(self, number: int, label: str) -> Optional[str]:
        return label if label and (number > 0 or self._stage.of(number) is None) else None

    def _name_of(self, number: int, label: str) -> str:
        labelled = self._label_of(number, label)
        return f"{self._name}.{labelled}" if labelled else self._name

    def hook(self) -> Hook:
        """A forward hook, which never fails."""
        import torch

        tensor_type = torch.Tensor
        is_compiling = torch.compiler.is_compiling
        first = self._first
        record_first = first.tensor
        gradients = self._gradients

        def hook(_module: torch.nn.Module, _args: Any, output: Any) -> None:
            if is_compiling():
                return
            try:
                if type(output) is not tensor_type or gradients is not None or not record_first(output):
                    self.record(output)
            except Exception as error:  # noqa: BLE001 - tracing never fails the model
                first.lose(f"a hook failed: {type(error).__name__}", f"{self._name}: {error}")

        return hook

    def record(self, output: Any) -> None:
        """Records every tensor of an output."""
        for number, (label, tensor) in enumerate(tensors(output)):
            if number >= _MOST_TENSORS:
                self._first.lose("a module returns too many tensors", f"{self._name}: only {_MOST_TENSORS} are kept")
                return
            if self._keep_all or not self._stage.leaves_out(number):
                record_array(self._site(number, label), tensor)
                if self._gradients is not None:
                    self._gradients.follow(self._name_of(number, label), tensor)


def tensors(output: Any, label: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of tuples, lists, mappings and data classes, in order, each with its label."""
    import torch

    if isinstance(output, torch.Tensor):
        yield label, output
    elif depth < _DEEPEST:
        for key, value in _items(output) or ():
            yield from tensors(value, f"{label}.{key}" if label else str(key), depth + 1)


def _items(output: Any) -> Optional[Iterator[tuple[Any, Any]]]:
    if isinstance(output, Mapping):
        return iter(output.items())
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return zip(output._fields, output)
    if isinstance(output, (tuple, list)):
        return enumerate(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return ((field.name, getattr(output, field.name, None)) for field in dataclasses.fields(output))
    return None
