"""Records the tensors of a PyTorch model, and finds the first one where two runs disagree.

with bitnet_trace.capture(model, "reference"):
    model(input_ids)
print(bitnet_trace.diff("reference", "mine"))
"""

from ._capture import Capture, capture
from ._compare import Comparison, Pair, assert_match, diff
from ._force import Force, force
from ._native import TraceError, flush
from ._record import annotate, record, scope
from ._stages import ModuleStage, stages
from ._trace import Record, Trace

__all__ = [
    "Capture",
    "Comparison",
    "Force",
    "ModuleStage",
    "Pair",
    "Record",
    "Trace",
    "TraceError",
    "annotate",
    "assert_match",
    "capture",
    "diff",
    "flush",
    "force",
    "record",
    "scope",
    "stages",
]
