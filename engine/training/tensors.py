"""Trees of tensors and plain values as files: tensors as safetensors, the rest as JSON, nothing pickled.

Optimisers and schedulers tell their state as nested dicts, lists and tuples. Both files together
give it back to the last bit, and each opens elsewhere without any of this code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from engine.errors import StorageError

#: What JSON lacks is an object of one key that begins so.
_MARK = "$"

#: As safetensors names them.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Part a tree into its tensors and a tree that JSON can write.

    Args:
        tree: dicts with any plain keys, lists, tuples, tensors, numbers, texts, booleans and None.
            Of a subclass (an ordered dict, a named tuple) only what it derives from is kept.

    Returns:
        The tensors themselves, not copies, named by their place; and the tree without them.
        Tensors that share memory are kept each by itself.

    Raises:
        TypeError: something else is in it; the message names its place.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _plain(tree, "", tensors)


def unflatten(tensors: Mapping[str, Tensor], plain: Any) -> Any:
    """The tree that `flatten` parted.

    Raises:
        ValueError: the two do not belong together.
    """
    match plain:
        case list():
            return [unflatten(tensors, value) for value in plain]
        case {"$tensor": str(name)}:
            if name not in tensors:
                raise ValueError(f"its tensor '{name}' is missing")
            return tensors[name]
        case {"$tuple": list(values)}:
            return tuple(unflatten(tensors, value) for value in values)
        case {"$float": str(digits)} if len(digits) == 16:
            return struct.unpack(">d", bytes.fromhex(digits))[0]
        case {"$pairs": list(pairs)}:
            return {unflatten(tensors, key): unflatten(tensors, value) for key, value in pairs}
        case dict():
            return {key: unflatten(tensors, value) for key, value in plain.items()}
    return plain


def _plain(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    match value:
        case Tensor():
            # Numbered, since the keys "0" and 0 look alike in a place.
            name = f"{len(tensors)}{place}"
            tensors[name] = value
            return {"$tensor": name}
        case None | bool() | int() | str():
            return value
        case float():
            # JSON has no nan and no infinity, and a nan has bits of its own.
            return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
        case list():
            return [_plain(each, f"{place}/{i}", tensors) for i, each in enumerate(value)]
        case tuple():
            return {"$tuple": [_plain(each, f"{place}/{i}", tensors) for i, each in enumerate(value)]}
        case dict():
            return _plain_dict(value, place, tensors)
    raise TypeError(
        f"{place or 'the tree'}: {type(value).__name__} cannot be kept in a checkpoint; keep tensors, "
        "numbers, texts, booleans, None, and lists, tuples and dicts of them"
    )


def _plain_dict(values: dict[Any, Any], place: str, tensors: dict[str, Tensor]) -> Any:
    if bad := [key for key in values if not isinstance(key, str | int | float | tuple | None)]:
        raise TypeError(f"{place or 'the tree'}: {type(bad[0]).__name__} cannot be a key in a checkpoint")
    # Names of tensors are UTF-8, texts need not be.
    places = {key: f"{place}/{key}".encode("utf-8", "backslashreplace").decode() for key in values}
    if all(isinstance(key, str) and not key.startswith(_MARK) for key in values):
        return {key: _plain(value, places[key], tensors) for key, value in values.items()}
    pairs = [
        [_plain(key, place, tensors), _plain(value, places[key], tensors)] for key, value in values.items()
    ]
    return {"$pairs": pairs}


def pack(tensors: Mapping[str, Tensor]) -> memoryview:
    """The bytes of a safetensors file; equal tensors give equal bytes, whatever their order.

    It is a copy on the processor, in one buffer: what becomes of the tensors later does not reach
    it, and it is written as it is, where the library's own writer makes a copy of its own.

    Args:
        tensors: of any device and strides; they may share memory.

    Raises:
        TypeError: a tensor is sparse, or of a type that the format lacks.
    """
    header = _header(tensors)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    front = struct.pack("<Q", len(text)) + text
    size = max((each["data_offsets"][1] for each in header.values()), default=0)
    buffer = torch.empty(len(front) + size, dtype=torch.uint8)
    buffer[: len(front)] = torch.frombuffer(bytearray(front), dtype=torch.uint8)
    for name, each in header.items():
        start, stop = (len(front) + offset for offset in each["data_offsets"])
        tensor = tensors[name].detach()
        buffer[start:stop].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    return buffer.numpy().data


def _header(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Type, shape and place of each, one after the other."""
    header, end = dict[str, dict[str, Any]](), 0
    # Wide elements first, so that each lies at a multiple of its width.
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        place = {"shape": list(tensor.shape), "data_offsets": [start, end]}
        header[name] = {"dtype": _dtype(name, tensor), **place}
    return header


def unpack(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the processor.

    Raises:
        ValueError: it is none, or was cut off.
    """
    try:
        tensors: dict[str, Tensor] = load_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"is no safetensors file ({error})") from error
    return tensors


def take(
    own: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    origin: str,
    way_out: str = "choose another finetune.name, or delete it",
) -> None:
    """Overwrite each tensor, where it lies, by the one of its name.

    Args:
        own, kept: to overwrite, and what by.
        origin: where the latter came from, for the message.
        way_out: what the user can do where they do not fit.

    Raises:
        StorageError: names or shapes differ; nothing has been changed.
    """
    shapes = (
        f"{name} {tuple(kept[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in kept and kept[name].shape != own[name].shape
    )
    wrong = {
        "missing": sorted(own.keys() - kept.keys()),
        "unexpected": sorted(kept.keys() - own.keys()),
        "of another shape": list(shapes),
    }
    if told := [f"{what}: {_some(names)}" for what, names in wrong.items() if names]:
        raise StorageError(
            f"{origin}: its weights are of another model or method ({'; '.join(told)}); {way_out}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(kept[name])


def _dtype(name: str, tensor: Tensor) -> str:
    if tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
        raise TypeError(
            f"{name}: a tensor of {tensor.dtype}, {tensor.layout}, cannot be kept in a checkpoint; make it "
            "dense, and of a type that safetensors has"
        )
    return _DTYPES[tensor.dtype]


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
