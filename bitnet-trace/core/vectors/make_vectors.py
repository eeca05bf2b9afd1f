#!/usr/bin/env python3
"""Test vectors of the fingerprint, from its definition, in numpy.

    make_vectors.py            writes vectors.json beside this file
    make_vectors.py --check    compares it with what would be written

Needs numpy and blake3. Nothing here is shared with the Rust code, on purpose: both follow the
definition in the crate's documentation, and the vectors are where they meet.

A case holds `storage`, a flat array in memory, and either `shape` alone (row-major) or `shape`,
`strides` and `offset`, counted in elements. `storage` is one of

    {"hex": [...]}                          bit patterns, one a string, as wide as the type
    {"generator": g, "seed": s, "count": n} element i from x = splitmix64(s * 2^32 + i):
        unit        f32: (x >> 40) / 2^24 * 2 - 1
        bits        the lowest bits of x, as many as the type has
        finite      f32, f64: as bits, with the top exponent bit cleared
        wide        f32: as unit, times 50 if x mod 61 = 0, 0 if x mod 67 = 0, -0 if x mod 71 = 0

Expected: `blake3` of the elements as little-endian f32; `raw_blake3` of the elements' own
little-endian bytes (F64, I64, U32, I32); `rms`, `mean`, `min`, `max` as the 16 hex digits of an f64
or null (a zero is +0); the counts; `sketch`, base64 of 64 little-endian f32; `rows`, the first 8
bytes of each row's blake3 in hex, null where there are more than 64.
"""

import base64
import json
import struct
import sys
from pathlib import Path

import numpy as np
from blake3 import blake3

FILE = Path(__file__).with_name("vectors.json")
SUB_BLOCK, LANES, BUCKETS = 4096, 16, 64
MASK = (1 << 64) - 1
ROWS_AT_MOST = 64


def splitmix64(x):
    """On an array of uint64."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# --- inputs

UINT = {"F64": "<u8", "F32": "<u4", "F16": "<u2", "BF16": "<u2", "F8E4M3": "u1", "F8E5M2": "u1",
        "U8": "u1", "U32": "<u4", "I16": "<u2", "I32": "<u4", "I64": "<u8"}
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "u1", "U32": "<u4", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
RAW = {"F64", "I64", "U32", "I32"}


def storage_bits(dtype, storage):
    """The storage as unsigned integers."""
    kind = np.dtype(UINT[dtype])
    if "hex" in storage:
        return np.array([int(text, 16) for text in storage["hex"]], dtype=kind)
    start, count = storage["seed"] << 32, storage["count"]
    x = splitmix64(np.arange(count, dtype=np.uint64) + np.uint64(start))
    unit = ((x >> np.uint64(40)).astype(np.float64) / 2.0**24 * 2 - 1).astype("<f4")
    match storage["generator"]:
        case "unit":
            values = unit
        case "wide":
            values = np.where(x % np.uint64(61) == 0, unit * np.float32(50), unit)
            values = np.where(x % np.uint64(67) == 0, np.float32(0), values)
            values = np.where(x % np.uint64(71) == 0, np.float32(-0.0), values).astype("<f4")
        case "bits":
            return x.astype(kind)
        case "finite":
            bits = x.astype(kind)
            return bits & kind.type(~(1 << (8 * kind.itemsize - 2)) & ((1 << 8 * kind.itemsize) - 1))
        case other:
            raise ValueError(other)
    assert dtype == "F32"
    return values.view(kind)


def logical(dtype, case):
    """The tensor's elements in row-major order, as unsigned integers of the type's width."""
    bits = storage_bits(dtype, case["storage"])
    shape = case["shape"]
    if "strides" not in case:
        return bits
    index = np.full(shape, case.get("offset", 0), dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(shape, case["strides"], strict=True)):
        index += (np.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return bits[index.reshape(-1)]


def quiet(bits):
    """f32 bits with every NaN made quiet."""
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, bits | 0x00400000, bits).astype("<u4")


def f8e4m3(bits):
    """OCP 8-bit floating point: 1, 4, 3 bits, bias 7, no infinity, NaN where all seven are set."""
    table = []
    for pattern in range(256):
        exponent, mantissa = pattern >> 3 & 15, pattern & 7
        if exponent == 15 and mantissa == 7:
            table.append(F8_NAN)
            continue
        magnitude = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
        sign = -1.0 if pattern >> 7 else 1.0
        table.append(struct.unpack("<I", struct.pack("<f", sign * magnitude))[0])
    return np.array(table, dtype="<u4")[bits]


def f8e5m2(bits):
    """OCP 8-bit floating point: 1, 5, 2 bits, the upper half of IEEE half precision."""
    values = (bits.astype("<u2") << 8).view("<f2")
    return np.where(np.isnan(values), F8_NAN, values.astype("<f4").view("<u4")).astype("<u4")


# What candle's type makes of a NaN of either sign.
F8_NAN = 0x7FFFE000


def as_f32_bits(dtype, bits):
    match dtype:
        case "F32":
            return bits
        case "BF16":
            return quiet(bits.astype("<u4") << 16)
        case "F8E4M3":
            return f8e4m3(bits)
        case "F8E5M2":
            return f8e5m2(bits)
        case _:
            values = bits.view(NUMPY[dtype])
            with np.errstate(over="ignore", invalid="ignore"):
                return quiet(values.astype("<f4").view("<u4"))


# --- the definition


def blocks(values):
    for start in range(0, values.size, SUB_BLOCK):
        yield start, values[start : start + SUB_BLOCK]


def in_lanes(values):
    """Sum of f64 values in the fixed order."""
    total = np.float64(0)
    for _, block in blocks(values):
        padded = np.zeros(-(-block.size // LANES) * LANES)
        padded[: block.size] = block
        lanes = np.zeros(LANES)
        for row in padded.reshape(-1, LANES):
            lanes = lanes + row
        for width in (8, 4, 2, 1):
            lanes[:width] += lanes[width : 2 * width]
        total = total + lanes[0]
    return total


def sketch(values):
    """`values` are f32, 0 where they are not finite."""
    total = np.zeros(BUCKETS)
    column = np.arange(BUCKETS, dtype=np.uint64)
    for start, block in blocks(values):
        buckets = np.zeros(BUCKETS, dtype=np.float32)
        for first in range(0, block.size, BUCKETS):
            row = np.array([(start + first) // BUCKETS], dtype=np.uint64)
            part = block[first : first + BUCKETS]
            columns = column[: part.size]
            plus = splitmix64(row) >> columns & np.uint64(1)
            to = columns ^ (splitmix64(row + np.uint64(1 << 40)) % np.uint64(BUCKETS))
            with np.errstate(over="ignore"):
                buckets[to] = buckets[to] + np.where(plus == 1, part, -part)
        with np.errstate(invalid="ignore"):
            total = total + buckets.astype(np.float64)
    largest = float(np.finfo(np.float32).max)
    # Infinite both ways: no sum, stored as 0.
    total = np.where(np.isnan(total), 0.0, total)
    return np.clip(total, -largest, largest).astype("<f4")


def hex64(value):
    return None if value is None else struct.pack(">d", float(value) + 0.0).hex()


def expected(dtype, case):
    native = logical(dtype, case)
    bits = as_f32_bits(dtype, native)
    values = bits.view("<f4")
    finite = np.isfinite(values)
    cleaned = np.where(finite, values, np.float32(0)).astype("<f4")
    wide = cleaned.astype(np.float64)
    some = finite.any()
    if values.size == 0:
        rms = 0.0
    elif finite.all():
        rms = np.sqrt(in_lanes(wide * wide) / np.float64(values.size))
    else:
        rms = None
    result = {
        "blake3": blake3(bits.tobytes()).hexdigest(),
        "rms": hex64(rms),
        "mean": hex64(in_lanes(wide) / np.float64(finite.sum()) if some else None),
        "min": hex64(values[finite].min() if some else None),
        "max": hex64(values[finite].max() if some else None),
        "nan_count": int(np.isnan(values).sum()),
        "inf_count": int(np.isinf(values).sum()),
        "zero_count": int((values == 0).sum()),
        "sketch": base64.b64encode(sketch(cleaned).tobytes()).decode(),
    }
    if dtype in RAW:
        result["raw_blake3"] = blake3(native.tobytes()).hexdigest()
    shape = case["shape"]
    width = shape[-1] if shape else 1
    count = values.size // width if width else 0
    result["rows"] = None
    if count <= ROWS_AT_MOST:
        table = bits.reshape(count, width) if width else []
        result["rows"] = [blake3(np.ascontiguousarray(row).tobytes()).hexdigest()[:16] for row in table]
    return result


# --- the cases


def cases():
    def of(name, dtype, storage, shape, strides=None, offset=0):
        case = {"name": name, "dtype": dtype, "storage": storage, "shape": shape}
        if strides is not None:
            case |= {"strides": strides, "offset": offset}
        return case

    def made(generator, seed, count):
        return {"generator": generator, "seed": seed, "count": count}

    yield of("empty", "F32", {"hex": []}, [0, 3])
    yield of("empty rows", "F32", {"hex": []}, [3, 0])
    yield of("scalar", "F32", {"hex": ["40200000"]}, [])
    yield of("scalar f64", "F64", {"hex": ["3fb999999999999a"]}, [])
    yield of("one negative zero", "F32", {"hex": ["80000000"]}, [1])
    yield of("zeros of both signs", "F32", {"hex": ["80000000", "00000000", "80000000", "00000000"]}, [2, 2])
    special = ["7fc00000", "ffc00001", "7f800001", "ff812345", "7f800000", "ff800000", "00000001", "807fffff",
               "7f7fffff", "ff7fffff", "80000000", "00000000", "3f800000", "bf800000", "00800000", "4b800001"]
    yield of("special f32", "F32", {"hex": special}, [2, 8])
    yield of("nothing finite", "F32", {"hex": special[:6]}, [6])
    yield of("all infinite", "F32", {"hex": ["7f800000", "7f800000"]}, [2])
    yield of("largest f32 in one bucket row", "F32", {"hex": ["7f7fffff", "ff7fffff"]}, [6000], [0], 0)
    yield of("largest f32 both ways", "F32", {"hex": ["ff7fffff"] * 3}, [100000], [0], 1)
    yield of("denormals", "F32", {"hex": ["00000001", "80000001", "007fffff", "000f0f0f"]}, [50, 4], [0, 1])
    for count in (1, 2, 15, 16, 17, 63, 64, 65, 100, 2560, 4095, 4096, 4097, 6912, 16383, 16384, 16385, 100000):
        yield of(f"unit {count}", "F32", made("unit", count, count), [count])
    yield of("wide", "F32", made("wide", 7, 20480), [8, 2560])
    yield of("wide, width no multiple of 64", "F32", made("wide", 8, 30 * 577), [30, 577])
    yield of("rows across blocks", "F32", made("wide", 9, 10 * 5000), [2, 5, 5000])
    yield of("many rows", "F32", made("unit", 10, 600), [200, 3])
    yield of("all bits", "F32", made("bits", 11, 9000), [3, 3000])
    yield of("finite of every size", "F32", made("finite", 12, 9000), [9000])
    special16 = ["0000", "8000", "0001", "83ff", "0400", "3c00", "7bff", "fbff", "7c00", "fc00", "7c01", "fe00", "7dff"]
    yield of("special f16", "F16", {"hex": special16}, [13])
    yield of("every f16 pattern", "F16", made("bits", 13, 70000), [7, 10000])
    special_b = ["0000", "8000", "0001", "807f", "3f80", "7f7f", "ff7f", "7f80", "ff80", "7f81", "ffbf", "7fc0", "ffff"]
    yield of("special bf16", "BF16", {"hex": special_b}, [13])
    yield of("signalling bf16 in a long row", "BF16", {"hex": [*special_b, "3f80", "bf80", "4000"]}, [40, 16], [0, 1])
    yield of("bf16 bits", "BF16", made("bits", 14, 40000), [40000])
    yield of("every f8e4m3", "F8E4M3", {"hex": [f"{i:02x}" for i in range(256)]}, [16, 16])
    yield of("every f8e4m3 but nan", "F8E4M3", {"hex": [f"{i:02x}" for i in range(127)]}, [127])
    yield of("every f8e5m2", "F8E5M2", {"hex": [f"{i:02x}" for i in range(256)]}, [16, 16])
    yield of("finite f8e5m2", "F8E5M2", {"hex": [f"{i:02x}" for i in range(0x7C)]}, [31, 4])
    for dtype, seed in (("F64", 20), ("U8", 21), ("U32", 22), ("I16", 23), ("I32", 24), ("I64", 25)):
        yield of(f"{dtype} bits", dtype, made("bits", seed, 20000), [5, 4000])
        yield of(f"{dtype} transposed", dtype, made("bits", seed + 10, 35 * 41), [41, 35], [1, 41])
    yield of("f64 finite", "F64", made("finite", 40, 5000), [5000])
    special64 = ["7ff8000000000000", "7ff0000000000001", "7ff0000000000000", "fff0000000000000", "47efffffe0000000",
                 "47effffff0000000", "36a0000000000000", "3690000000000000", "8000000000000000", "3ff0000010000000"]
    yield of("special f64", "F64", {"hex": special64}, [10])
    yield of("integers f32 confuses", "I64", {"hex": ["0000000001000000", "0000000001000001"]}, [2])
    unit = made("unit", 50, 30000)
    yield of("transposed", "F32", unit, [200, 150], [1, 200])
    yield of("columns", "F32", unit, [150, 90], [200, 1], 3)
    yield of("rows", "F32", unit, [50, 200], [200, 1], 1400)
    yield of("row repeated", "F32", unit, [60, 300], [0, 1], 5)
    yield of("column repeated", "F32", unit, [60, 300], [1, 0], 5)
    yield of("heads", "F32", unit, [1, 10, 30, 100], [30000, 100, 1000, 1])
    yield of("permuted", "F32", unit, [25, 40, 30], [1, 25, 1000])
    yield of("every other", "F32", unit, [100, 150], [300, 2])
    yield of("repeated in the middle", "F32", unit, [30, 7, 100], [1000, 0, 1], 50)
    bf16 = made("bits", 51, 20000)
    yield of("bf16 transposed", "BF16", bf16, [200, 100], [1, 200])
    yield of("bf16 heads", "BF16", bf16, [4, 50, 100], [100, 400, 1])
    yield of("f16 columns", "F16", bf16, [60, 100], [300, 1], 100)
    yield of("f16 column repeated", "F16", bf16, [60, 100], [1, 0])
    yield of("f8e4m3 transposed", "F8E4M3", made("bits", 52, 6000), [100, 60], [1, 100])


def text():
    made = [case | {"expected": expected(case["dtype"], case)} for case in cases()]
    lines = ",\n".join(json.dumps(case) for case in made)
    return f"[\n{lines}\n]\n"


def main():
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text() != text():
            sys.exit(f"{FILE}: differs from what this script makes")
        print("vectors.json is what this script makes")
    elif not sys.argv[1:]:
        FILE.write_text(text())
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
