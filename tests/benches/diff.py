"""What people write by hand: loads two traces with `json` and compares the hashes of equal keys."""

import json
import sys


def load(directory):
    records = {}
    with open(f"{directory}/trace.jsonl", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            records[record.get("seq_index"), record.get("layer_idx"), record["stage"]] = record["blake3"]
    return records


reference, trace = (load(directory) for directory in sys.argv[1:3])
differ = sum(reference[key] != trace.get(key) for key in reference)
print(f"{differ} of {len(reference)} differ")
