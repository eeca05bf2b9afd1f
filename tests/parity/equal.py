"""The same tensors, recorded from Python, C and Rust, give the same files.

Records (`.trace`, `trace.jsonl`) and captured values (`values/*.safetensors`) are equal byte for byte. They hold no
time, and only annotated functions have a site. `run.json` differs in what it says of the process (`OF_THE_PROCESS`).

usage: equal.py FOLDER_OF_PROGRAMS C_PROGRAM
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bitnet_trace
import torch

CORE = Path(__file__).parents[2] / "bitnet-trace" / "core" / "vectors"

# What run.json says of the process: its number and times, its program, and what only a binary in Rust with candle has.
OF_THE_PROCESS = {
    "program",
    "arguments",
    "process",
    "process_identity",
    "run",
    "started",
    "finished",
    "features",
    "threads",
    "sites",
    "unreached",
}
# In the order of `bt_dtype`.
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "F8E4M3": torch.float8_e4m3fn,
    "F8E5M2": torch.float8_e5m2,
    "U8": torch.uint8,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "I64": torch.int64,
}
# candle has no such type: the cases of this type come last, and Rust records those before them.
NOT_IN_CANDLE = "F8E5M2"


@dataclass(frozen=True)
class Case:
    """A tensor: the bytes of a dense one, the views that are taken of it, and where it is recorded."""

    dtype: str
    shape: list[int]
    bytes: bytes
    stage: str
    # Else the name is made of step, layer and stage.
    name: str | None = None
    seq: int | None = None
    layer: int | None = None
    # `["transpose", 0, 1]`, `["narrow", 0, 1, 2]` or `["expand", 2, 3]`.
    views: list[list[Any]] = field(default_factory=list)

    def tensor(self) -> torch.Tensor:
        """The tensor of torch, whose strides are those of C too."""
        dense = torch.frombuffer(bytearray(self.bytes), dtype=torch.uint8) if self.bytes else torch.empty(0).byte()
        tensor = dense.view(DTYPES[self.dtype]).reshape(self.shape)
        for view, *arguments in self.views:
            tensor = tensor.expand(arguments) if view == "expand" else getattr(tensor, view)(*arguments)
        return tensor


def cases() -> list[Case]:
    """The vectors of the digest, and every type with strides, in scopes, and repeated."""
    specification = importlib.util.spec_from_file_location("make_vectors", CORE / "make_vectors.py")
    assert specification is not None
    assert specification.loader is not None
    vectors = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(vectors)
    found = []
    for vector in json.loads((CORE / "vectors.json").read_text()):
        # Strides of the vectors are more general than the views of candle.
        if vector.get("strides") is None:
            content = vectors.storage_bits(vector["dtype"], vector["storage"]).tobytes()
            found.append(Case(vector["dtype"], vector["shape"], content, vector["name"]))
    for number, dtype in enumerate(DTYPES):
        seed = 1000 + number
        # 3 of 4 bits patterns are numbers in every type; NaN and infinity are compared too.
        content = vectors.storage_bits(dtype, {"generator": "bits", "seed": seed, "count": 24}).tobytes()
        step = {"seq": number, "layer": number % 3}
        found += [
            Case(dtype, [2, 3, 4], content, "q_proj", **step),
            Case(dtype, [2, 3, 4], content, "turned", views=[["transpose", 0, 2]], **step),
            Case(dtype, [2, 3, 4], content, "narrow", views=[["narrow", 1, 1, 2], ["narrow", 2, 1, 3]], **step),
            Case(dtype, [6, 1, 4], content, "broadcast", views=[["expand", 6, 5, 4]], seq=number),
            Case(dtype, [24], content, "only_layer", layer=7),
            Case(dtype, [2, 3, 4], content, "q_proj", f"model.layers.{number % 3}.self_attn.q_proj", **step),
        ]
        # Again: a repeat, of another shape too.
        found += [Case(dtype, shape, content, "q_proj", **step) for shape in ([2, 3, 4], [4, 6])]
    # Names that are alike as names of files, and a long one.
    content = struct.pack("<2f", 1, 2)
    found += [Case("F32", [2], content, "s", name) for name in ("a/b", "a_b", "a:b", ".a", "CON", "n" * 250, "é" * 120)]
    return sorted(found, key=lambda case: case.dtype == NOT_IN_CANDLE)


def described(case: Case, dtypes: list[str]) -> bytes:
    """A case as record.c reads it."""
    tensor = case.tensor()
    name, stage = (case.name or "").encode(), case.stage.encode()
    offset = tensor.storage_offset() * tensor.element_size()
    seq, layer = (-1 if number is None else number for number in (case.seq, case.layer))
    head = [dtypes.index(case.dtype), tensor.dim(), offset, bool(case.views), seq, layer]
    numbers = [*head, len(name), len(stage), len(case.bytes), *tensor.shape, *(tensor.stride() if case.views else ())]
    return struct.pack(f"={len(numbers)}q", *numbers) + name + stage + case.bytes


def text(cases: list[Case]) -> bytes:
    """The cases as JSON, for Python and Rust."""
    return json.dumps([{**asdict(case), "bytes": case.bytes.hex()} for case in cases]).encode()


def record(cases: list[Case]) -> None:
    """Records the cases from Python, in scopes and with the arguments of `record`."""
    for number, case in enumerate(cases):
        name, stage = (case.stage, None) if case.name is None else (case.name, case.stage)
        if number % 2:
            with bitnet_trace.scope(seq=case.seq), bitnet_trace.scope(layer=case.layer):
                bitnet_trace.record(name, case.tensor(), stage=stage)
        else:
            bitnet_trace.record(name, case.tensor(), stage=stage, seq=case.seq, layer=case.layer)


def files(directory: Path) -> dict[str, bytes]:
    """The files of a trace, without those that lock it."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    names = {str(path.relative_to(directory)): path.read_bytes() for path in paths}
    return {name: content for name, content in names.items() if name != ".lock"}


def compare(one: Path, other: Path, what: str, *, begins: bool = False) -> int:
    """Checks that two traces are the same, or that the second begins as the first; returns how many files are equal."""
    found = [files(directory) for directory in (one, other)]
    runs = [json.loads(side.pop("run.json")) for side in found]
    if begins:
        count = runs[0].pop("records")
        expect(0 < count < runs[1].pop("records"), f"{what}: {count} records")
        found[1] = {name: content for name, content in found[1].items() if name in found[0]}
        if "trace.jsonl" in found[1]:
            found[1]["trace.jsonl"] = b"".join(found[1]["trace.jsonl"].splitlines(keepends=True)[:count])
    expect(found[0].keys() == found[1].keys(), f"{what}: other files: {sorted(found[0].keys() ^ found[1].keys())}")
    for name, content in found[0].items():
        lines = zip(content.splitlines(), found[1][name].splitlines())
        differ = next((pair for pair in lines if pair[0] != pair[1]), (content, found[1][name]))
        expect(content == found[1][name], f"{what}: {name} differs:\n{differ[0]!r}\n{differ[1]!r}")
    differing = {key for key in runs[0].keys() | runs[1].keys() if runs[0].get(key) != runs[1].get(key)}
    expect(differing <= OF_THE_PROCESS, f"{what}: run.json differs in {differing - OF_THE_PROCESS}")
    expect(runs[0]["lost"] == runs[1]["lost"] == 0, f"{what}: {runs[0]['losses']}, {runs[1]['losses']}")
    return len(found[0])


def run(command: list[str], content: bytes, directory: Path, settings: dict[str, str]) -> None:
    """Runs a program that records what it reads into a directory."""
    environment = {**os.environ, **settings, "BITNET_TRACE_DIR": str(directory), "BITNET_TRACE_STRICT": "1"}
    process = subprocess.run(command, input=content, env=environment, capture_output=True, check=False)
    expect(process.returncode == 0, f"{command[0]} ends with {process.returncode}: {process.stderr.decode()}")
    expect(not process.stderr, f"{command[0]} says: {process.stderr.decode()}")


def expect(condition: bool, message: str) -> None:
    """Ends with the message unless the condition holds."""
    if not condition:
        sys.exit(f"error: {message}")


def main() -> None:
    """Records with each program, and compares; with `record`, it is the program in Python."""
    if sys.argv[1:] == ["record"]:
        record([Case(**{**case, "bytes": bytes.fromhex(case["bytes"])}) for case in json.load(sys.stdin)])
        return
    programs, c_program = Path(sys.argv[1]), sys.argv[2]
    everything = cases()
    in_candle = [case for case in everything if case.dtype != NOT_IN_CANDLE]
    binary = b"".join(described(case, list(DTYPES)) for case in everything)
    with tempfile.TemporaryDirectory() as work:
        for form in ("files", "jsonl"):
            settings = {"BITNET_TRACE_FORMAT": form, "BITNET_TRACE_CAPTURE": "sketch,rows,values"}
            python, c, rust = (Path(work) / form / side for side in ("python", "c", "rust"))
            run([sys.executable, __file__, "record"], text(everything), python, settings)
            run([c_program], binary, c, settings)
            run([str(programs / "examples" / "record")], text(in_candle), rust, settings)
            equal = compare(python, c, f"{form}, Python and C")
            expect(json.loads((c / "run.json").read_text())["records"] == len(everything), f"{form}: too few records")
            print(f"{form}: {len(everything)} tensors, {equal} files of Python and C are equal")
            equal = compare(rust, c, f"{form}, Rust and C", begins=True)
            print(f"{form}: {len(in_candle)} tensors, {equal} files of Rust and C are equal")


if __name__ == "__main__":
    main()
