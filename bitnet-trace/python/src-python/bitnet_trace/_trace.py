"""Traces that were recorded, and their records."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from . import _native

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

PathLike = Union[str, "os.PathLike[str]"]

# The numpy types of elements that numpy has itself.
_NUMPY = {"U8": "u1", "U32": "<u4", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
# Those of ml_dtypes, and the integers that hold the same bits where it is not installed.
_ML_DTYPES = {"BF16": ("bfloat16", "<u2"), "F8E4M3": ("float8_e4m3fn", "u1"), "F8E5M2": ("float8_e5m2", "u1")}


@dataclass(frozen=True)
class Record:
    """The record of one tensor. The fields are those of the trace files."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    blake3: str
    rms: float
    num_elements: int
    seq_index: Optional[int] = None
    layer_idx: Optional[int] = None
    stage: Optional[str] = None
    order: Optional[int] = None
    call: int = 0
    output: Optional[str] = None
    io: Optional[str] = None
    request: Optional[int] = None
    tokens: Optional[tuple[int, int]] = None
    min: Optional[float] = None
    max: Optional[float] = None
    mean: Optional[float] = None
    nan_count: int = 0
    inf_count: int = 0
    zero_count: int = 0
    sketch: Optional[str] = None
    rows: Optional[tuple[str, ...]] = None
    values: Optional[str] = None
    raw_blake3: Optional[str] = None
    site: Optional[str] = None
    device: Optional[str] = None

    @classmethod
    def _of_json(cls, text: str) -> Record:
        found: dict[str, Any] = json.loads(text)
        if found["rms"] is None:
            found["rms"] = math.nan
        for name in ("shape", "tokens", "rows"):
            if found.get(name) is not None:
                found[name] = tuple(found[name])
        return cls(**{name: value for name, value in found.items() if name in _FIELDS})


_FIELDS = tuple(field.name for field in fields(Record))


class Trace:
    """The records of a run, in execution order."""

    def __init__(self, native: _native.Trace, name: str = "in memory") -> None:
        self._native = native
        self._name = name
        self._records: Optional[list[Record]] = None

    @classmethod
    def open(cls, path: PathLike) -> Trace:
        """Reads a trace directory or a `.jsonl` file.

        Raises `TraceError` if the path cannot be read or holds no record. What else cannot be read is in `problems`.
        """
        return cls(_native.Trace.open(path), os.fspath(path))

    @property
    def records(self) -> list[Record]:
        """The records in execution order."""
        if self._records is None:
            self._records = [Record._of_json(text) for text in self._native.records()]
        return self._records

    @property
    def manifest(self) -> Optional[dict[str, Any]]:
        """The content of `run.json`; `None` if there is none."""
        text = self._native.manifest()
        return None if text is None else json.loads(text)

    @property
    def problems(self) -> list[str]:
        """What could not be read, one message each."""
        return self._native.problems()

    def values(self, record: Union[str, Record]) -> npt.NDArray[Any]:
        """The captured elements of a record, given by itself or by its name (of several, the first).

        bfloat16 and 8-bit floats have the types of `ml_dtypes` if it is installed; else an array of integers holds
        their bits (`uint16`, `uint8`). Raises `KeyError` if the trace has no such record, and `TraceError` if its
        values were not captured or cannot be read.
        """
        of_name = isinstance(record, str)
        same = (i for i, other in enumerate(self.records) if (other.name if of_name else other) == record)
        index = next(same, None)
        if index is None:
            name = record if isinstance(record, str) else record.name
            message = f"the trace has no record {name!r}"
            raise KeyError(message)
        found = self._native.values(index)
        if found is None:
            name = self.records[index].name
            message = f'the values of {name!r} were not captured: record them with capture="sketch,values"'
            raise _native.TraceError(message)
        dtype, shape, content = found
        return np.frombuffer(content, dtype=_numpy_dtype(dtype)).reshape(shape)

    def columns(self) -> dict[str, list[Any]]:
        """The records as columns, one list for each field."""
        return {name: [getattr(record, name) for record in self.records] for name in _FIELDS}

    def to_arrow(self) -> pa.Table:
        """The records as a table of pyarrow."""
        import pyarrow as pa

        return pa.table(self.columns())

    def to_pandas(self) -> pd.DataFrame:
        """The records as a data frame of pandas."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def to_polars(self) -> pl.DataFrame:
        """The records as a data frame of polars."""
        import polars as pl

        return pl.DataFrame(self.columns())

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"<Trace {self._name}: {len(self)} records>"


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    ml_name, bits = _ML_DTYPES[name]
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(bits)
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, ml_name))
    return found
