"""The digest from Python is the digest of the format: the vectors of the core."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch

from bitnet_trace import Record, Trace
from bitnet_trace._native import Session, Site
from bitnet_trace._tensor import record_array

CORE = Path(__file__).parents[2] / "core" / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((CORE / "vectors.json").read_text())
TORCH = {
    "U8": torch.uint8,
    "U32": torch.uint32,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8E4M3": torch.float8_e4m3fn,
    "F8E5M2": torch.float8_e5m2,
}
NUMPY = {"U8": "u1", "U32": "u4", "I16": "i2", "I32": "i4", "I64": "i8", "F16": "f2", "F32": "f4", "F64": "f8"}


def _make_vectors() -> Any:
    specification = importlib.util.spec_from_file_location("make_vectors", CORE / "make_vectors.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def storage_of(vector: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The bits of the elements of a vector's storage."""
    bits: np.ndarray[Any, Any] = _make_vectors().storage_bits(vector["dtype"], vector["storage"])
    return bits


def recorded(array: Any) -> Record:
    """The record of an array."""
    session = Session.start(None, capture="sketch,rows")
    record_array(Site(session.recorder(), None, "vector"), array)
    trace, lost = session.finish()
    assert lost is None
    return Trace(trace).records[0]


def float_of(digits: Optional[str]) -> Optional[float]:
    """A float as the vectors write it."""
    return None if digits is None else struct.unpack(">d", bytes.fromhex(digits))[0]


def assert_is(record: Record, vector: dict[str, Any]) -> None:
    """Checks every field that a vector has."""
    expected = vector["expected"]
    assert record.dtype == vector["dtype"]
    assert record.shape == tuple(vector["shape"])
    rms = float_of(expected["rms"])
    assert (math.isnan(record.rms) and rms is None) or record.rms == rms
    checked = {"rms"}
    for name in ("mean", "min", "max"):
        assert getattr(record, name) == float_of(expected[name]), name
        checked.add(name)
    # Of many rows the vectors list none.
    if expected["rows"] is None:
        checked.add("rows")
    for name in expected.keys() - checked:
        found = getattr(record, name)
        assert (list(found) if isinstance(found, tuple) else found) == expected[name], name


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_a_torch_tensor_has_the_digest_of_the_vectors(vector: dict[str, Any]) -> None:
    bits = storage_of(vector)
    size = bits.dtype.itemsize
    carried = torch.from_numpy(bits.copy().view(f"i{size}" if size > 1 else "u1"))
    tensor = carried.view(TORCH[vector["dtype"]])
    strides = vector.get("strides")
    if strides is None:
        tensor = tensor.reshape(vector["shape"])
    else:
        tensor = tensor.as_strided(vector["shape"], strides, vector.get("offset", 0))
    assert_is(recorded(tensor), vector)


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["dtype"] in NUMPY], ids=lambda vector: str(vector["name"])
)
def test_a_numpy_array_has_the_digest_of_the_vectors(vector: dict[str, Any]) -> None:
    array = storage_of(vector).copy().view(NUMPY[vector["dtype"]])
    strides = vector.get("strides")
    if strides is None:
        array = array.reshape(vector["shape"])
    else:
        size = array.dtype.itemsize
        array = np.lib.stride_tricks.as_strided(
            array[vector.get("offset", 0) :], vector["shape"], [stride * size for stride in strides]
        )
    assert_is(recorded(array), vector)
