"""Compares the values of a trace of llama.cpp with a numpy archive of the same nodes: check.py TRACE ARCHIVE.npz [LIMIT]

The archive has a key for each node of the prefill, `Qcur-0.1` for the second node of one name. Needs numpy.
"""

import json
import struct
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np


def values(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    (entry,) = [value for key, value in json.loads(data[8 : 8 + length]).items() if key != "__metadata__"]
    assert entry["dtype"] == "F32", entry
    start, end = entry["data_offsets"]
    return np.frombuffer(data[8 + length :][start:end], "<f4").reshape(entry["shape"])


def main(trace, archive, limit="1e-5"):
    trace, archive = Path(trace), np.load(archive)
    recorded = defaultdict(list)
    with open(trace / "trace.jsonl") as lines:
        for record in map(json.loads, lines):
            if record["seq_index"] == 0 and "values" in record:
                recorded[record["name"].partition("#")[0]].append(trace / record["values"])
    equal, errors, absent = 0, {}, []
    for key in archive.files:
        base, _, number = key.rpartition(".")
        base, number = (base, int(number)) if number.isdigit() and base else (key, 0)
        if base not in recorded:
            absent.append(key)
            continue
        expected, found = archive[key], values(recorded[base][number])
        found = found.reshape(expected.shape)
        if np.array_equal(expected, found):
            equal += 1
        else:
            errors[key] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    worst = max(errors, key=errors.get, default=None)
    print(f"{equal + len(errors)} nodes: {equal} equal bit for bit, {len(errors)} not", end="")
    print(f"; the largest relative L2 error is {errors[worst]:.1e}, of {worst}" if worst else "")
    print(f"without a record: {', '.join(absent) or 'none'}")
    if equal + len(errors) == 0 or any(error > float(limit) for error in errors.values()):
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
