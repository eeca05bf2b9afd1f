"""Records what the modules of a model return, by forward hooks that are there only inside the `with` block."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Optional

from ._attention import AttentionSites, follow_attention
from ._fork import OPEN, environment
from ._generate import follow_generate, generating
from ._gradients import Gradients
from ._hook import Hook
from ._native import Session, Site
from ._outputs import HookSites
from ._record import SCOPE, Scope, leave_scope, open_capture
from ._stages import ModuleStage, stages
from ._steps import Steps
from ._tensor import INSIDE, learn_torch, record_array
from ._tokens import Tokens, of_environment
from ._trace import PathLike, Trace

if TYPE_CHECKING:
    from types import TracebackType

    import torch

    from ._compare import Map
    from ._native import Recorder
    from ._operations import Frame, OperationMode, Operations

# The stages that are the input of a module, each with the stages of such a module. If a block has both, the input of
# the first is meant: a norm before a projection.
_INPUT_STAGES = {
    "attn_ctx": ("attn_sub_norm", "o_proj"),
    "attn_residual": ("ffn_norm",),
    "ffn_act": ("ffn_sub_norm", "down_proj"),
}


class Capture:
    """What `capture` returns: enter it with `with`."""

    def __init__(  # noqa: PLR0913 - the settings of a session
        self,
        model: torch.nn.Module,
        directory: Optional[PathLike],
        *,
        memory: bool,
        settings: dict[str, Optional[str]],
        map: Map,  # noqa: A002 - the command's name for it
        all_modules: bool,
        ops: bool,
        backward: bool,
        prefix: str = "",
        mode: Optional[OperationMode] = None,
    ) -> None:
        import torch

        if not isinstance(model, torch.nn.Module):
            message = f"a capture is of a torch.nn.Module, found a value of type {type(model).__name__}"
            raise TypeError(message)
        if directory is not None and memory:
            message = "a capture records into a directory or into memory, not both"
            raise ValueError(message)
        given = [name for name, value in settings.items() if value is not None]
        if directory is None and not memory and given:
            message = (
                f"`{given[0]}` needs a directory or `memory=True`; without them the variables BITNET_TRACE_* count"
            )
            raise ValueError(message)
        self._model = model
        self._directory = directory
        self._memory = memory
        self._settings = settings
        self._map = map
        self._all_modules = all_modules
        self._ops = ops
        self._backward = backward
        self._prefix = prefix
        self._mode = mode
        self._undo = contextlib.ExitStack()
        self._trace: Optional[Trace] = None
        self._recorder: Optional[Recorder] = None
        self._operations: Optional[Operations] = None
        self._steps = Steps(model, training=backward)
        self.session: Optional[Session] = None
        self.tokens: Optional[Tokens] = None
        self.lost: Optional[str] = None
        """What was lost, as a text; known after the block."""
        self.around: Optional[Capture] = None
        self.has_ended = True

    @property
    def step(self) -> Scope:
        """The step that the model is in, or was in last, in this thread."""
        return self._steps.now

    @property
    def trace(self) -> Trace:
        """The records, once the block has ended. Without a directory and `memory`, the environment has them."""
        if self._trace is None:
            message = "there is no trace: the block has not ended, or the environment decides where its records are"
            raise RuntimeError(message)
        return self._trace

    def __enter__(self) -> Capture:
        if self in OPEN:
            message = "this capture is open already: make another one for a block inside its block"
            raise RuntimeError(message)
        if self._directory is None and not self._memory:
            self.session = environment()
            self.tokens = None if self.session is None else of_environment(self.session)
        else:
            self.session = Session.start(self._directory, **self._settings)
            self.tokens = Tokens(self.session)
        if self.session is not None:
            try:
                self._attach(self.session)
            except BaseException:
                self._undo.close()
                self._finish()
                raise
            self._enter_scope()
            OPEN.add(self)
        return self

    def _enter_scope(self) -> None:
        """Makes this the capture that single arrays are recorded into."""
        self.around = open_capture()
        self.has_ended = False
        token = SCOPE.set(replace(SCOPE.get(), capture=self))

        def leave() -> None:
            self.has_ended = True
            # A capture that was opened inside this block may outlive it.
            if open_capture() in (None, self.around):
                leave_scope(token)

        self._undo.callback(leave)

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._undo.close()
        self._finish()

    def abandon(self) -> None:
        """Records nothing more, and leaves what was recorded to the process that this one was forked from."""
        OPEN.discard(self)
        self.session = None
        self._undo.close()

    def _finish(self) -> None:
        OPEN.discard(self)
        if self.session is not None and (self._directory is not None or self._memory):
            native, self.lost = self.session.finish()
            directory = self.session.directory or self._directory
            self._trace = Trace(native, "in memory" if directory is None else str(directory))

    def _attach(self, session: Session) -> None:
        learn_torch()
        _describe(session, self._model)
        recorder = session.recorder()
        self._recorder = recorder
        self._steps.start(recorder)
        model = self._model
        modules, compiled = _modules(model)
        found = stages(modules, self._map)
        if compiled:
            warnings.warn(
                f"{compiled[0] or type(model).__name__} is compiled: of a compiled module only what it returns is "
                "recorded, not the modules inside it",
                stacklevel=4,
            )
        known = any(stage.rules for stage in found.values())
        first = model.register_forward_pre_hook(Hook(self._guarded_step), with_kwargs=True, prepend=True)
        self._undo.callback(first.remove)
        if self.tokens is not None and not self._backward:
            self._undo.callback(model.register_forward_hook(Hook(self._after_call)).remove)
            self._undo.callback(follow_generate(model, self.tokens))
        inputs = _inputs(found)
        gradients = self._gradients(recorder)
        frames = self._frames(recorder, found, modules)
        for path, module in modules.items():
            stage = found[path]
            if path in inputs:
                self._observe_input(recorder, path, module, inputs[path], stage.layer)
            if (stage.ignored or (not path and known)) and not self._all_modules:
                continue
            name = self._name_of(path, module)
            sites = HookSites(recorder, name, stage, keep_all=self._all_modules, gradients=gradients)
            self._observe(module, sites, frames.get(path))
        for path, module in modules.items():
            if found[path].layer is not None and f"{path}.o_proj" in modules:
                attention = AttentionSites(recorder, self._prefix + path, found[path].layer)
                self._undo.enter_context(follow_attention(module, attention))
        self._follow_operations(modules, frames)

    def _name_of(self, path: str, module: torch.nn.Module) -> str:
        return self._prefix + (path or type(module).__name__)

    def _gradients(self, recorder: Recorder) -> Optional[Gradients]:
        if not self._backward:
            return None
        gradients = Gradients(recorder)
        self._undo.callback(gradients.close)
        gradients.follow_parameters((self._prefix + name, one) for name, one in self._model.named_parameters())
        return gradients

    def _frames(
        self, recorder: Recorder, found: dict[str, ModuleStage], modules: dict[str, torch.nn.Module]
    ) -> dict[str, Frame]:
        """What the operations of each module are recorded under."""
        if not self._ops:
            return {}
        from ._operations import Operations

        self._operations = operations = Operations(recorder)
        return {
            path: operations.frame(self._name_of(path, module), path, found[path]) for path, module in modules.items()
        }

    def _follow_operations(self, modules: dict[str, torch.nn.Module], frames: dict[str, Frame]) -> None:
        """Records the operations of this thread, each with the innermost module that runs."""
        if self._operations is None:
            return
        from ._operations import follow_operations

        # After all other hooks: the operations of hooks belong to their module.
        for path, frame in frames.items():
            if getattr(modules[path], "_compiled_call_impl", None) is None:
                for handle in self._operations.hook(modules[path], frame):
                    self._undo.callback(handle.remove)
        self._undo.enter_context(follow_operations(self._operations, self._mode))

    def _observe(self, module: torch.nn.Module, sites: HookSites, frame: Optional[Frame]) -> None:
        """Records what a module returns."""
        hook = sites.hook()
        inner: Optional[Callable[..., Any]] = getattr(module, "_compiled_call_impl", None)
        if inner is None:
            self._undo.callback(module.register_forward_hook(Hook(hook)).remove)
            return

        # `module.compile()` puts the module's hooks into the compiled code: only a call around it stays outside.
        operations = self._operations

        def observed(*args: Any, **kwargs: Any) -> Any:
            if operations is None or frame is None:
                output = inner(*args, **kwargs)
            else:
                with operations.inside(frame):
                    output = inner(*args, **kwargs)
            hook(module, args, output)
            return output

        def restore() -> None:
            if getattr(module, "_compiled_call_impl", None) is observed:
                module._compiled_call_impl = inner

        module._compiled_call_impl = observed
        self._undo.callback(restore)

    def _observe_input(
        self, recorder: Recorder, path: str, module: torch.nn.Module, stage: str, layer: Optional[int]
    ) -> None:
        """Records the input of a module that is a stage of its own: residuals, what attention computed."""
        around = path.rsplit(".", 1)[0]
        site = Site(recorder, f"{self._prefix}{around}.{stage}", stage, layer)
        import torch

        is_compiling = torch.compiler.is_compiling

        def before(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if is_compiling():
                return
            value = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(value, torch.Tensor):
                record_array(site, value)

        self._undo.callback(module.register_forward_pre_hook(Hook(before), with_kwargs=True).remove)

    def _guarded_step(self, _module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if torch.compiler.is_compiling():
            return
        try:
            with INSIDE:
                past = self._steps.begin(args, kwargs)
                self._begin_tokens(self._steps.ids(args, kwargs), past)
        except Exception as error:  # noqa: BLE001 - tracing never fails the model
            if self.session is not None:
                self.session.lose(f"the step is not known: {type(error).__name__}", str(error))

    def _begin_tokens(self, ids: Any, past: Optional[int]) -> None:
        if self.tokens is None or self._backward or self._model.training:
            return
        followed = generating()
        if followed is None:
            self.tokens.begin_call(ids, past)
        elif self.tokens in followed:
            self.tokens.call_in_generate(ids)

    def _after_call(self, _module: torch.nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        import torch

        if self.tokens is not None and not torch.compiler.is_compiling() and generating() is None:
            self.tokens.end_call(output)


def capture(  # noqa: PLR0913 - the settings of a session
    model: torch.nn.Module,
    directory: Optional[PathLike] = None,
    *,
    memory: bool = False,
    filter: Optional[str] = None,  # noqa: A002 - as the environment variables are called
    format: Optional[str] = None,  # noqa: A002
    capture: Optional[str] = None,
    print: Optional[str] = None,  # noqa: A002
    map: Map = "hf",  # noqa: A002 - the command's name for it
    all_modules: bool = False,
    ops: bool = False,
    backward: bool = False,
) -> Capture:
    """Records what the modules of a model return, while the `with` block runs.

        with bitnet_trace.capture(model, "reference", capture="sketch,values") as trace:
            model(input_ids)

    A record's name is the module's path. Stage and layer come from the rules of `map`, as in `bitnet-trace diff --map`,
    so that the trace compares with one of a Rust port. Modules that the rules leave out because they return the output
    of a module inside them are recorded only with `all_modules`.

    With `ops`, every operation of PyTorch that the thread runs in the block is recorded too, under the module that it
    ran in and its own name: `model.layers.0.self_attn.q_proj/aten.mm`, stage `q_proj/aten.mm`.

    With `backward`, gradients are recorded while `backward()` computes them, with `io` set to `grad`: those of what
    modules return, and the `grad` of each parameter each time that it has grown. The stage of a gradient is the name
    of its tensor, and each call of the model is a step.

    `filter`, `format`, `capture` and `print` have the syntax of the variables `BITNET_TRACE_*`. With `memory` the trace
    is kept in memory. Without a directory, the variables say whether and where to record.

    Of one sequence, the tokens are annotated as `prompt_tokens` and `generated_tokens`: those of `generate`, or of a
    loop that decodes the most likely token of each step. Otherwise `annotate` says them.

    The model computes the same, and when the block ends, all hooks are gone. What cannot be recorded is counted in
    `run.json`, with one warning for each cause. A process that is forked inside the block, such as a worker of a
    `DataLoader`, records nothing. Threads may share the model: each has its own scope and counts its own steps.
    """
    settings = {"filter": filter, "format": format, "capture": capture, "print": print}
    return Capture(
        model,
        directory,
        memory=memory,
        settings=settings,
        map=map,
        all_modules=all_modules,
        ops=ops,
        backward=backward,
    )


def _modules(model: torch.nn.Module) -> tuple[dict[str, torch.nn.Module], list[str]]:
    """The modules that can be hooked, by path, and the paths of those that are compiled."""
    import torch

    modules: dict[str, torch.nn.Module] = {}
    compiled: list[str] = []
    for path, module in model.named_modules():
        if any(not outer or path.startswith(f"{outer}.") for outer in compiled):
            continue
        modules[path] = module
        optimized = type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")
        in_place = getattr(module, "_compiled_call_impl", None) is not None
        if optimized or in_place or isinstance(module, torch.jit.ScriptModule):
            compiled.append(path)
    return modules, compiled


def _inputs(found: dict[str, ModuleStage]) -> dict[str, str]:
    """The modules whose input is a stage, each with that stage."""
    by_place: dict[tuple[str, str], tuple[int, str]] = {}
    for path, stage in found.items():
        if stage.layer is None:
            continue
        for input_stage, of_modules in _INPUT_STAGES.items():
            if stage.of(0) in of_modules:
                key = (path.rsplit(".", 1)[0], input_stage)
                place = (of_modules.index(stage.of(0) or ""), path)
                by_place[key] = min(place, by_place.get(key, place))
    return {path: input_stage for (_, input_stage), (_, path) in by_place.items()}


def _describe(session: Session, model: torch.nn.Module) -> None:
    """Puts into `run.json` what the run depends on."""
    import sys

    import torch

    transformers = sys.modules.get("transformers")
    facts = {
        "model": type(model).__name__,
        "torch": str(torch.__version__),
        "transformers": getattr(transformers, "__version__", None),
        "torch_threads": torch.get_num_threads(),
        "attention": getattr(getattr(model, "config", None), "_attn_implementation", None),
    }
    for key, value in facts.items():
        if value is not None:
            session.annotate(key, json.dumps(value))
