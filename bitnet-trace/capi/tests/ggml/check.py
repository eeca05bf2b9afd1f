"""Compares the records of a ggml graph with the numbers that ggml reads itself: check.py TRACE READ COUNT LOST."""

import json
import math
import sys


def main(trace: str, read: str, count: int, lost: int) -> None:
    with open(f"{trace}/trace.jsonl", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    with open(read, encoding="utf-8") as lines:
        nodes = [line.rstrip("\n").rsplit(" ", 1 + line.count(" 0x") + line.count(" -0x")) for line in lines]
    assert len(records) == len(nodes) == count, (len(records), len(nodes), count)
    for record, (name, shape, *texts) in zip(records, nodes):
        values = [float.fromhex(text) for text in texts]
        assert record["name"].split("#")[0] == name, (record["name"], name)
        assert record["seq_index"] == 0, record
        assert record["shape"] == [int(dim) for dim in shape.split("x")], (name, record["shape"], shape)
        assert record["num_elements"] == len(values) > 0, name
        rms = math.sqrt(math.fsum(value * value for value in values) / len(values))
        mean = math.fsum(values) / len(values)
        assert math.isclose(record["rms"], rms, rel_tol=1e-12), (name, record["rms"], rms)
        assert math.isclose(record["mean"], mean, rel_tol=1e-9, abs_tol=1e-12), (name, record["mean"], mean)
        assert (record["min"], record["max"]) == (min(values), max(values)), name
        # The order of the elements counts too: the sketch is a sum with signs that depend on the place.
        assert sketch(values) == record["sketch"], name
    with open(f"{trace}/run.json", encoding="utf-8") as run:
        losses = {loss["cause"]: loss["count"] for loss in json.load(run)["losses"]}
    assert losses == ({"bt_record refused `data`": lost} if lost else {}), losses
    print(f"{count} nodes are recorded as ggml reads them")


def sketch(values: list[float]) -> str:
    import base64
    import struct

    def splitmix64(x: int) -> int:
        mask = (1 << 64) - 1
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    def f32(x: float) -> float:
        return struct.unpack("<f", struct.pack("<f", x))[0]

    totals = [0.0] * 64
    for start in range(0, len(values), 4096):
        buckets = [0.0] * 64
        for index in range(start, min(start + 4096, len(values))):
            row, column = divmod(index, 64)
            sign = 1.0 if splitmix64(row) >> column & 1 else -1.0
            bucket = column ^ (splitmix64(2**40 + row) % 64)
            buckets[bucket] = f32(buckets[bucket] + sign * values[index])
        totals = [total + bucket for total, bucket in zip(totals, buckets)]
    return base64.b64encode(struct.pack("<64f", *totals)).decode()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
