"""Shows the memory of tensors and arrays to the native part, without a copy where that is possible."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ._native import use_torch

if TYPE_CHECKING:
    import torch

    from ._native import Site

UNREADABLE = "cannot read the tensor"
# A sparse tensor is made dense up to this many elements (1 GiB of float32).
MOST_SPARSE_ELEMENTS = 1 << 28

# The names of element types by the kind and size of numpy's types.
_NUMPY_NAMES = {
    "b1": "U8",
    "u1": "U8",
    "u4": "U32",
    "i2": "I16",
    "i4": "I32",
    "i8": "I64",
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
}
# Types of numpy that a larger type of ours holds exactly.
_NUMPY_WIDER = {"i1": "i2", "u2": "i4"}
# Types of ml_dtypes, by name.
_ML_NAMES = {"bfloat16": "BF16", "float8_e4m3fn": "F8E4M3", "float8_e5m2": "F8E5M2"}

_TORCH_NAMES = {
    "uint8": "U8",
    "uint32": "U32",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8E4M3",
    "float8_e5m2": "F8E5M2",
}
# Types of torch that a larger type of ours holds exactly.
_TORCH_WIDER = {
    "int8": "int16",
    "uint16": "int32",
    "float8_e4m3fnuz": "float32",
    "float8_e5m2fnuz": "float32",
    "float8_e8m0fnu": "float32",
}
_torch_names: dict[object, str] = {}


class _Inside(threading.local):
    """How deep this thread is inside the package: what it asks of torch there is no operation of the model."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


INSIDE = _Inside()


class Unreadable(Exception):  # noqa: N818 - a loss, which nobody raises to the user
    """A tensor that has no elements to read."""


def learn_torch() -> None:
    """Tells the native part of the types of torch, once."""
    if _torch_names:
        return
    import torch

    for name, ours in _TORCH_NAMES.items():
        if hasattr(torch, name):
            _torch_names[getattr(torch, name)] = ours
    use_torch(_torch_names, torch.strided)


def record_array(site: Site, array: Any) -> None:
    """Records an array of any library. What cannot be read is counted as lost."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(array, torch.Tensor):
            record_tensor(site, array)
        elif site.wants():
            _record_numpy(site, _as_numpy(array))
    except Unreadable as reason:
        site.lose(UNREADABLE, str(reason))
    except Exception as error:  # noqa: BLE001 - tracing never fails the program
        site.lose(f"{UNREADABLE}: {type(error).__name__}", str(error))


def record_tensor(site: Site, tensor: torch.Tensor) -> None:
    """Records a tensor of torch, of any type, layout and device."""
    import torch

    learn_torch()
    if type(tensor) in (torch.Tensor, torch.nn.Parameter) and site.tensor(tensor):
        return
    if not site.wants():
        return
    with INSIDE, torch.no_grad():
        on_host, device = _on_host(tensor)
        if device is None and site.tensor(on_host):
            return
        name = _torch_names.get(on_host.dtype)
        if name is None:
            message = f"there is no conversion from {tensor.dtype} to f32"
            raise Unreadable(message)
        site.memory(on_host.data_ptr(), name, tuple(on_host.shape), on_host.stride(), device)


def _on_host(tensor: torch.Tensor) -> tuple[torch.Tensor, Optional[str]]:
    """The tensor as a dense one in the memory of the host, of a type that can be read, and its own device."""
    import torch

    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    message = why_unreadable(tensor)
    if message is not None:
        raise Unreadable(message)
    device = None if tensor.device.type == "cpu" else str(tensor.device)
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        if tensor.numel() > MOST_SPARSE_ELEMENTS:
            message = f"a sparse tensor of more than {MOST_SPARSE_ELEMENTS} elements is too large to make dense"
            raise Unreadable(message)
        tensor = tensor.to_dense()
    if device is not None:
        # A view would take the whole of its storage to the host.
        tensor = tensor.contiguous().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    tensor = tensor.resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "bool":
        tensor = tensor.view(torch.uint8)
    elif name in _TORCH_WIDER:
        tensor = tensor.to(getattr(torch, _TORCH_WIDER[name]))
    elif name == "uint64":
        tensor = tensor.view(torch.int64)
        if tensor.numel() and int(tensor.min()) < 0:
            message = "a tensor of type uint64 has values beyond those of int64"
            raise Unreadable(message)
    return tensor, device


def why_unreadable(tensor: torch.Tensor) -> Optional[str]:
    """Why a tensor has no elements to read; `None` if it has."""
    import torch

    if tensor.device.type == "meta" or type(tensor).__name__ == "FakeTensor":
        return "a tensor without elements (meta or fake) has nothing to record"
    if tensor.is_nested:
        return "a nested tensor has no shape: record its components"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "a tensor inside torch.func has no memory of its own"
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is being captured: what its kernels compute is not known before it is replayed"
    return None


def _as_numpy(array: Any) -> np.ndarray[Any, Any]:
    if isinstance(array, (np.ndarray, np.generic)):
        return np.asarray(array)
    if hasattr(array, "__dlpack__"):
        try:
            return np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError):
            # A type that numpy lacks, such as bfloat16, or another device.
            if not hasattr(array, "__array__"):
                raise
    if hasattr(array, "__array__"):
        return np.asarray(array)
    return np.asarray(memoryview(array))


def _record_numpy(site: Site, array: np.ndarray[Any, Any]) -> None:
    dtype = array.dtype
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if dtype.kind == "c":
        array = np.ascontiguousarray(array).reshape(array.shape)[..., np.newaxis].view(array.real.dtype)
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    if kind in _NUMPY_WIDER:
        array = array.astype(_NUMPY_WIDER[kind])
        kind = _NUMPY_WIDER[kind]
    elif kind == "u8":
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            message = "an array of type uint64 has values beyond those of int64"
            raise Unreadable(message)
        array, kind = array.astype(np.int64), "i8"
    name = _ML_NAMES.get(array.dtype.name) or _NUMPY_NAMES.get(kind)
    if name is None:
        message = f"there is no conversion from {dtype} to f32"
        raise Unreadable(message)
    size = array.dtype.itemsize
    if any(stride < 0 or stride % size for stride in array.strides):
        array = np.ascontiguousarray(array).reshape(array.shape)
    address = array.__array_interface__["data"][0]
    site.memory(address, name, array.shape, tuple(stride // size for stride in array.strides))
