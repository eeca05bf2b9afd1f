"""The native part: `bitnet-trace-core` as classes."""

import os
from typing import Optional, final

_Path = str | os.PathLike[str]

class TraceError(Exception): ...

@final
class Session:
    @staticmethod
    def start(
        directory: Optional[_Path],
        filter: Optional[str] = None,
        format: Optional[str] = None,
        capture: Optional[str] = None,
        print: Optional[str] = None,
    ) -> Session: ...
    @staticmethod
    def environment() -> Optional[Session]: ...
    @property
    def directory(self) -> Optional[os.PathLike[str]]: ...
    def recorder(self) -> Recorder: ...
    def annotate(self, key: str, json: str) -> None: ...
    def lose(self, cause: str, message: str) -> None: ...
    def finish(self) -> tuple[Trace, Optional[str]]: ...

@final
class Recorder:
    def set_step(
        self,
        seq: Optional[int] = None,
        layer: Optional[int] = None,
        request: Optional[int] = None,
        tokens: Optional[tuple[int, int]] = None,
    ) -> None: ...

@final
class Site:
    def __new__(
        cls,
        recorder: Recorder,
        name: Optional[str],
        stage: Optional[str] = None,
        layer: Optional[int] = None,
        output: Optional[str] = None,
        io: str = "out",
    ) -> Site: ...
    def tensor(self, tensor: object) -> bool: ...
    def memory(
        self,
        address: int,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        device: Optional[str] = None,
    ) -> None: ...
    def wants(self) -> bool: ...
    def lose(self, cause: str, message: str) -> None: ...

@final
class Trace:
    @staticmethod
    def open(path: _Path) -> Trace: ...
    def records(self) -> list[str]: ...
    def values(self, index: int) -> Optional[tuple[str, list[int], bytes]]: ...
    def manifest(self) -> Optional[str]: ...
    def problems(self) -> list[str]: ...

@final
class Comparison:
    @property
    def matches(self) -> bool: ...
    def json(self) -> str: ...
    def screen(self, all: bool) -> str: ...
    def html(self) -> str: ...

def flush() -> None: ...
def use_torch(dtypes: dict[object, str], strided: object) -> None: ...
def diff(
    reference: Trace,
    trace: Trace,
    names: tuple[str, str],
    map: list[str],
    rel_l2: Optional[float],
    tolerance: Optional[_Path],
    only_common: bool,
) -> Comparison: ...
def diff_paths(
    reference: _Path,
    trace: _Path,
    map: list[str],
    rel_l2: Optional[float],
    tolerance: Optional[_Path],
    only_common: bool,
) -> Comparison: ...
def map_targets(
    map: list[str], names: list[str]
) -> list[list[tuple[Optional[int], Optional[str], Optional[int], bool]]]: ...
