"""Single arrays of every kind."""

from __future__ import annotations

import array
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from blake3 import blake3

import bitnet_trace
from bitnet_trace import Record, Trace, TraceError
from bitnet_trace._native import Session, Site
from bitnet_trace._tensor import record_array


def records(*arrays: Any, capture: str = "values") -> Trace:
    """Records arrays under the stage `a`."""
    session = Session.start(None, capture=capture)
    for one in arrays:
        record_array(Site(session.recorder(), None, "a"), one)
    trace, _ = session.finish()
    return Trace(trace)


def lost(one: Any) -> str:
    """Says why an array is lost."""
    session = Session.start(None)
    record_array(Site(session.recorder(), None, "a"), one)
    trace, why = session.finish()
    assert not Trace(trace).records
    assert why is not None
    return why


def test_types_that_the_format_lacks_are_widened_without_loss() -> None:
    for dtype, expected in [
        (torch.bool, "U8"),
        (torch.int8, "I16"),
        (torch.uint16, "I32"),
        (torch.uint64, "I64"),
        (torch.float8_e4m3fnuz, "F32"),
    ]:
        tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
        [record] = records(tensor).records
        assert (record.dtype, record.max) == (expected, 1.0), dtype
    [record] = records(torch.tensor([1 + 2j, 3 - 4j])).records
    assert (record.shape, record.min) == ((2, 2), -4.0)
    for dtype, expected in [("?", "U8"), ("i1", "I16"), ("u2", "I32"), ("u8", "I64"), (">f4", "F32")]:
        [record] = records(np.array([0, 1], dtype)).records
        assert (record.dtype, record.max) == (expected, 1.0), dtype
    [record] = records(np.array([1 + 2j])).records
    assert (record.shape, record.max) == ((1, 2), 2.0)


def test_views_that_torch_reads_lazily_have_their_own_values() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    conjugate = tensor.conj()
    assert conjugate.imag.is_neg()
    trace = records(conjugate.imag, tensor.imag)
    assert [record.max for record in trace.records] == [4.0, 2.0]
    trace = records(conjugate, conjugate.resolve_conj())
    assert trace.records[0].blake3 == trace.records[1].blake3


def test_other_layouts_are_made_dense() -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    quantized = torch.quantize_per_tensor(dense, 1.0, 0, torch.quint8)
    trace = records(dense, dense.to_sparse(), dense.to_sparse_csr(), quantized)
    assert len({record.blake3 for record in trace.records}) == 1


@pytest.mark.parametrize(
    ("one", "part"),
    [
        (torch.empty(2, device="meta"), "meta"),
        (torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (1 << 20, 1 << 20)), "too large"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (torch.tensor([-1]).view(torch.uint64), "beyond those of int64"),
        (np.array(["text"]), "no conversion from"),
        (object(), "bytes-like"),
    ],
)
def test_what_cannot_be_read_is_lost_with_its_reason(one: Any, part: str) -> None:
    assert part in lost(one)


def test_a_tensor_whose_storage_was_freed_is_lost() -> None:
    tensor = torch.ones(1000)
    tensor.untyped_storage().resize_(0)
    assert "does not fit its storage" in lost(tensor)


def test_buffers_and_dlpack_are_read() -> None:
    class Dlpack:
        """Only what the protocol asks for."""

        def __dlpack__(self, **settings: Any) -> Any:
            return np.arange(3, dtype=np.float32).__dlpack__(**settings)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    trace = records(array.array("f", [0, 1, 2]), Dlpack(), memoryview(np.arange(3, dtype=np.float32)))
    assert [record.dtype for record in trace.records] == ["F32"] * 3
    assert len({record.blake3 for record in trace.records}) == 1


def test_strides_are_kept_and_negative_ones_read() -> None:
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    trace = records(numbers.T, np.ascontiguousarray(numbers.T), numbers[::-1], numbers[::-1].copy())
    first, second, third, fourth = (record.blake3 for record in trace.records)
    assert (first, third) == (second, fourth)


def test_values_come_back_as_they_were() -> None:
    numbers = torch.tensor([[1.5, -2.0], [float("nan"), 3.25]])
    for dtype in (torch.float32, torch.float64, torch.float16):
        found = records(numbers.to(dtype)).values("a")
        np.testing.assert_array_equal(found, numbers.to(dtype).numpy())
    found = records(numbers.to(torch.bfloat16)).values("a")
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.view("u2"), numbers.to(torch.bfloat16).view(torch.int16).numpy().view("u2"))
    of_numpy = records(found).records[0]
    assert of_numpy.blake3 == records(numbers.to(torch.bfloat16)).records[0].blake3


def test_values_that_are_not_there_are_an_error_that_says_so() -> None:
    trace = records(np.ones(2), capture="none")
    with pytest.raises(TraceError, match="were not captured"):
        trace.values("a")
    with pytest.raises(KeyError, match="no record 'b'"):
        trace.values("b")


def test_scopes_nest_and_end(tmp_path: Path) -> None:
    with bitnet_trace.capture(torch.nn.Identity(), tmp_path / "t") as trace:
        with bitnet_trace.scope(seq=2, tokens=range(4, 6)):
            with bitnet_trace.scope(layer=3, request=7):
                bitnet_trace.record("q_proj", np.ones(2))
            bitnet_trace.record("logits", np.ones(2))
        bitnet_trace.record("Qcur-5", np.ones(2), stage="q_proj", layer=5)
    found = [(r.name, r.stage, r.seq_index, r.layer_idx, r.request, r.tokens) for r in trace.trace.records]
    assert found == [
        ("t2/blk3/q_proj", "q_proj", 2, 3, 7, (4, 6)),
        ("t2/logits", "logits", 2, None, None, (4, 6)),
        ("Qcur-5", "q_proj", None, 5, None, None),
    ]


def test_without_a_destination_nothing_is_recorded(tmp_path: Path) -> None:
    code = "import bitnet_trace, numpy; bitnet_trace.record('a', numpy.ones(2))"
    environment = {**os.environ, "BITNET_TRACE_DIR": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert not list(tmp_path.iterdir())


def test_the_environment_says_where_to_record(tmp_path: Path) -> None:
    code = "import bitnet_trace, numpy; bitnet_trace.record('a', numpy.arange(4.0, dtype='f4'), seq=0, layer=1)"
    environment = {**os.environ, "BITNET_TRACE_DIR": str(tmp_path / "t"), "BITNET_TRACE_CAPTURE": "none"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    record = json.loads((tmp_path / "t" / "t0_blk1_a.trace").read_text())
    # Python writes the file that Rust writes; the digest is that of the four floats.
    assert record == {
        "name": "t0/blk1/a",
        "shape": [4],
        "dtype": "F32",
        "blake3": blake3(np.arange(4, dtype="<f4").tobytes()).hexdigest(),
        "rms": 1.8708286933869707,
        "num_elements": 4,
        "seq_index": 0,
        "layer_idx": 1,
        "stage": "a",
        "order": 0,
        "min": 0.0,
        "max": 3.0,
        "mean": 1.5,
        "zero_count": 1,
    }
    run = json.loads((tmp_path / "t" / "run.json").read_text())
    assert run["complete"] is True


@pytest.mark.parametrize(
    ("name", "settings"),
    [(None, {}), (3, {}), ("\ud800", {}), ("a", {"seq": -1}), ("a", {"layer": "3"}), ("a", {"seq": 1.5})],
)
def test_a_record_with_a_wrong_name_or_step_is_lost(name: Any, settings: dict[str, Any]) -> None:
    model = torch.nn.Identity()
    with bitnet_trace.capture(model, memory=True) as recorded:
        bitnet_trace.record(name, np.ones(2), **settings)
        bitnet_trace.record("b", np.ones(2))
    assert [record.stage for record in recorded.trace.records] == ["b"]
    assert recorded.lost is not None
    assert "the name or the step of a record is not valid" in recorded.lost


def test_a_trace_becomes_tables() -> None:
    trace = records(np.ones((2, 3), np.float32), np.zeros(1), capture="rows")
    assert isinstance(trace.records[0], Record)
    assert trace.to_arrow().num_rows == 2
    assert trace.to_pandas()["shape"].tolist() == [(2, 3), (1,)]
    assert trace.to_polars()["dtype"].to_list() == ["F32", "F64"]
