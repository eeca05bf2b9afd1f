"""Gradients of what modules return, and of parameters, recorded while the backward pass computes them.

Hooks on tensors, not on modules: a full backward hook puts a view around what a module returns, which then cannot be
changed in place, and it sees no tensors inside data classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from ._native import Site
from ._tensor import record_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from ._native import Recorder


class Gradients:
    """The gradients of one capture. Each has the name of its tensor as stage, and the step before it as name."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._sites: dict[str, Site] = {}
        self._leaves: dict[tuple[int, str], Callable[[], None]] = {}
        self._open = True

    def follow_parameters(self, parameters: Iterator[tuple[str, torch.nn.Parameter]]) -> None:
        """Records the `grad` of parameters, each time that a backward pass has added to it."""
        from torch.nn.parameter import UninitializedParameter

        for name, parameter in parameters:
            if isinstance(parameter, UninitializedParameter):
                site = Site(self._recorder, None, name, io="grad")
                site.lose("a lazy parameter takes no hook: call the model once before the capture", name)
                continue
            # A frozen parameter takes no hook.
            if parameter.requires_grad and parameter.is_leaf:
                hook = self._of_parameter(name)
                handle = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
                self._leaves[id(parameter), name] = handle.remove

    def follow(self, name: str, tensor: torch.Tensor) -> None:
        """Records the gradient of a tensor that a module returns, if a backward pass computes it."""
        if not tensor.requires_grad or not self._open:
            return
        if not tensor.is_leaf:
            # The hook lives as long as the graph of this call.
            tensor.register_hook(self._of_output(name))  # type: ignore[no-untyped-call]
        elif (id(tensor), name) not in self._leaves:
            # A module that returns a parameter: the hook stays until the capture ends.
            handle = tensor.register_hook(self._of_output(name))  # type: ignore[no-untyped-call]
            self._leaves[id(tensor), name] = handle.remove

    def close(self) -> None:
        """Records no further gradient, also of graphs that are still there."""
        self._open = False
        for remove in self._leaves.values():
            remove()
        self._leaves.clear()

    def _of_output(self, name: str) -> Callable[[Any], None]:
        def hook(gradient: Any) -> None:
            self._record(name, gradient)

        return hook

    def _of_parameter(self, name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            self._record(name, parameter.grad)

        return hook

    def _record(self, name: str, gradient: Any) -> None:
        import torch

        if not self._open or torch.compiler.is_compiling() or not isinstance(gradient, torch.Tensor):
            return
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = Site(self._recorder, None, name, io="grad")
        record_array(site, gradient)
