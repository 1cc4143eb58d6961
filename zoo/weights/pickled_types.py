"""What pickles of checkpoints may contain: tensors, NumPy arrays and scalars, and a few plain types.

Every function checks all of its arguments, because they come from the file. None of them is the function of torch or
NumPy that the pickle names: NumPy's `dtype.__setstate__`, for one, takes the item size from the file, and reads and
writes outside of arrays with it.
"""

from __future__ import annotations

import argparse
import functools
import math
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .errors import CheckpointError

MAX_DIMENSIONS = 16
"""Largest number of dimensions of a tensor or array."""

_MAX_SIZE = 2**48  # of a dimension, a stride or an offset, so that torch's 64-bit products of a few do not overflow
_MAX_STRING = 2**16  # characters of an element of an array of strings
_DTYPE_CODE = re.compile(r"([<>=|]?)(b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU][0-9]{1,5})")


_STORAGE_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
}
# Types whose elements are plain numbers of whole bytes; not the quantized ones.
_DTYPES = {
    str(value): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
    and re.fullmatch(r"torch\.(bool|u?int(8|16|32|64)|b?float(8|16|32|64)(_e\w+)?|complex(32|64|128))", str(value))
}

Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]
"""A class or function that a pickle may name, with its full name if that differs, as `safe_globals` takes it."""


class Budget:
    """Memory that objects may take in addition to the file's own bytes.

    Args:
        limit: Number of bytes.
    """

    def __init__(self, limit: int):
        self.limit, self.remaining = limit, limit

    def spend(self, count: int) -> None:
        """Takes a number of bytes; raises a CheckpointError if too few remain."""
        self.remaining -= count
        if self.remaining < 0:
            raise CheckpointError(f"requests more than the {self.limit} bytes that a file of its size can need")


@dataclass(frozen=True)
class Function:
    """Stands for a function or class that a pickle names.

    Attributes:
        call: Called with the arguments in the pickle.
        new: Called instead for objects that are built without `__init__`, if that differs.
    """

    call: Callable[..., Any]
    new: Callable[..., Any] | None = None


@dataclass
class Unfinished:
    """An object whose state follows in the pickle.

    Attributes:
        finish: Returns the object for a state.
        dtype: The type if it is a NumPy type.
        memo_keys: Under which keys the pickle refers to it.
    """

    finish: Callable[[Any], Any]
    dtype: np.dtype | None = None
    memo_keys: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Storage:
    """The bytes of tensors, and the type of their elements."""

    untyped: torch.UntypedStorage
    dtype: torch.dtype


@dataclass(frozen=True)
class StorageType:
    """A class of storages, which determines the type of their elements."""

    dtype: torch.dtype


@dataclass(frozen=True)
class TypeName:
    """A class that is named as an argument only."""

    name: str


def check_key(key: Any) -> Any:
    """Returns a key of a dict or an element of a set.

    Raises:
        CheckpointError: It is not a number, string or tuple of them: hashing nested tuples can overflow the C stack.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if not all(part is None or isinstance(part, (str, bytes, int, float, np.generic)) for part in parts):
        raise CheckpointError(f"has a key of type {type(key).__name__}, not a number or string")
    return key


def build(instance: Any, state: Any, allowed: tuple[type, ...] = ()) -> Any:
    """Sets the state of an object as a pickle requests, and returns the object.

    The attributes that state dicts and settings have besides their items are left out.

    Args:
        instance: The object.
        state: Its state.
        allowed: Classes that the user allowed in addition.

    Raises:
        CheckpointError: The object has no state, or the state is invalid.
    """
    if isinstance(instance, Unfinished):
        return instance.finish(state)
    if type(instance) in allowed:
        return _set_state(instance, state)
    if type(instance) in (OrderedDict, Counter):
        return instance
    if isinstance(instance, argparse.Namespace):
        if not isinstance(state, dict) or not all(
            isinstance(name, str) and not hasattr(argparse.Namespace, name) for name in state
        ):
            raise CheckpointError("contains an argparse.Namespace whose state is not a dict of arguments")
        vars(instance).update(state)
        return instance
    raise CheckpointError(f"sets the state of a {type(instance).__name__}, which is not loaded")


def _set_state(instance: Any, state: Any) -> Any:
    """Sets the state of an object of a class that the user allowed, as Python's unpickler does."""
    if hasattr(instance, "__setstate__"):
        instance.__setstate__(state)
        return instance
    state, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    vars(instance).update(state or {})
    for name, value in (slots or {}).items():
        setattr(instance, name, value)
    return instance


def allowed_table(allowed: Iterable[Allowed]) -> dict[str, Any]:
    """Returns the functions and classes that a user allowed by their full names."""
    table = {}
    for item in allowed:
        function, name = item if isinstance(item, tuple) else (item, f"{item.__module__}.{item.__qualname__}")
        new = functools.partial(function.__new__, function) if isinstance(function, type) else None
        table[name] = Function(function, new)
    return table


def _integers(values: Any, what: str) -> tuple[int, ...]:
    """Checks sizes, strides or offsets."""
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        raise CheckpointError(f"contains a tensor whose {what} is not a tuple of at most {MAX_DIMENSIONS} numbers")
    for value in values:
        if type(value) is not int or not 0 <= value <= _MAX_SIZE:
            raise CheckpointError(f"contains a tensor whose {what} has {str(value)[:20]}, not a number from 0 to 2**48")
    return tuple(values)


class TensorTypes:
    """Functions that build tensors.

    Args:
        budget: Memory for copies, and for tensors whose elements share memory.
    """

    def __init__(self, budget: Budget):
        self.budget = budget

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
        """Builds a tensor as `torch._utils._rebuild_tensor_v2` does. Whether it requires a gradient is ignored."""
        if not isinstance(storage, Storage):
            raise CheckpointError("contains a tensor without a storage")
        if len(rest) > 2 and rest[2]:
            raise CheckpointError("contains a tensor with a conjugate or negative bit, which is not loaded")
        return self._tensor(storage.untyped, storage.dtype, offset, size, stride)

    def rebuild_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
    ) -> torch.Tensor:
        """Builds a tensor as `torch._utils._rebuild_tensor_v3` does: with a type without a class of storages."""
        if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype) or metadata:
            raise CheckpointError("contains a tensor without a storage or type")
        return self._tensor(storage.untyped, dtype, offset, size, stride)

    def _tensor(
        self, storage: torch.UntypedStorage, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> torch.Tensor:
        if dtype not in _DTYPES.values():
            raise CheckpointError(f"contains a tensor of type {dtype}, which is not loaded")
        (offset,) = _integers((offset,), "offset")
        size, stride = _integers(size, "size"), _integers(stride, "stride")
        if len(size) != len(stride):
            raise CheckpointError(f"contains a tensor with {len(size)} sizes and {len(stride)} strides")
        if math.prod(extent for extent in size if extent) > _MAX_SIZE:
            raise CheckpointError(f"contains a tensor of shape {size}, which is too large")
        available, count = storage.nbytes() // dtype.itemsize, math.prod(size)
        last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True)) if count else 0
        if count and last >= available:
            raise CheckpointError(
                f"contains a tensor of shape {size} with strides {stride} at offset {offset}, which exceeds its "
                f"storage of {available} elements"
            )
        if count > available:
            self.budget.spend(count * dtype.itemsize)
        return torch.empty(0, dtype=dtype).set_(storage, offset if count else 0, size, stride)

    def rebuild_parameter(self, data: Any, *_: Any) -> torch.Tensor:
        """Returns a parameter's tensor."""
        if not isinstance(data, torch.Tensor):
            raise CheckpointError("contains a parameter without a tensor")
        return data

    def rebuild_from_type(self, function: Any, _: Any, arguments: Any, *state: Any) -> Any:
        """Builds the tensor of a subclass or with attributes, without them."""
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise CheckpointError("contains a tensor whose rebuild function is not one of torch")
        return function.call(*arguments)

    def rebuild_from_array(self, data: Any, dtype: Any, *_: Any) -> torch.Tensor:
        """Builds a tensor of another device that was saved as an array or tensor."""
        if not isinstance(data, (np.ndarray, torch.Tensor)) or not isinstance(dtype, torch.dtype):
            raise CheckpointError("contains a tensor of another device without its data")
        tensor = data if isinstance(data, torch.Tensor) else torch.from_numpy(data)
        self.budget.spend(tensor.numel() * dtype.itemsize)
        return tensor.to(dtype)

    def table(self) -> dict[str, Any]:
        """Returns torch's functions and types by their full names."""
        rebuild = Function(self.rebuild)
        table: dict[str, Any] = {
            "torch._utils._rebuild_tensor": rebuild,
            "torch._utils._rebuild_tensor_v2": rebuild,
            "torch._utils._rebuild_tensor_v3": Function(self.rebuild_v3),
            "torch._utils._rebuild_parameter": Function(self.rebuild_parameter),
            "torch._utils._rebuild_parameter_with_state": Function(self.rebuild_parameter),
            "torch.nn.parameter.Parameter": Function(self.rebuild_parameter),
            "torch._tensor._rebuild_from_type_v2": Function(self.rebuild_from_type),
            "torch._utils._rebuild_device_tensor_from_numpy": Function(self.rebuild_from_array),
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": Function(self.rebuild_from_array),
            "torch._utils._rebuild_xla_tensor": Function(self.rebuild_from_array),
            "torch.Tensor": TypeName("torch.Tensor"),
            "torch.Size": Function(lambda size: torch.Size(_integers(size, "size"))),
            "torch.device": Function(_device),
        }
        table |= _DTYPES
        for module in ("torch", "torch.cuda"):
            table |= {f"{module}.{name}Storage": StorageType(dtype) for name, dtype in _STORAGE_DTYPES.items()}
        for module in ("torch", "torch.storage"):
            table[f"{module}.UntypedStorage"] = StorageType(torch.uint8)
        return table


def _device(kind: Any, index: Any = None) -> torch.device:
    if not isinstance(kind, str) or not (index is None or type(index) is int):
        raise CheckpointError("contains a torch.device without a name")
    return torch.device(kind) if index is None else torch.device(kind, index)


class ArrayTypes:
    """Functions that build NumPy's types, scalars and arrays.

    Args:
        budget: Memory for copies.
    """

    def __init__(self, budget: Budget):
        self.budget = budget

    def dtype(self, code: Any, *_: Any) -> Unfinished:
        """Builds a type from its code. Its state is ignored except for the byte order."""
        if not isinstance(code, str) or not (found := _DTYPE_CODE.fullmatch(code)):
            raise CheckpointError(f"contains the NumPy type {str(code)[:20]!r}, not a number or string")
        if found.group(2)[0] in "SU" and int(found.group(2)[1:]) > _MAX_STRING:
            raise CheckpointError(f"contains NumPy strings of {found.group(2)[1:]} characters, more than {_MAX_STRING}")
        dtype = np.dtype(code)
        return Unfinished(lambda state: dtype.newbyteorder(_byte_order(state)), dtype)

    def scalar(self, dtype: Any, content: Any = b"") -> Any:
        """Builds a scalar."""
        return self._array(dtype, (1,), content)[0]

    def reconstruct(self, cls: Any, *_: Any) -> Unfinished:
        """Builds an array whose shape, type and content follow as its state."""
        if cls != _NDARRAY:
            raise CheckpointError("contains a NumPy array of a subclass, which is not loaded")
        return Unfinished(self._finish_array)

    def from_buffer(self, content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
        """Builds an array as pickles of protocol 5 have it."""
        return self._array(dtype, shape, content, order)

    def _finish_array(self, state: Any) -> np.ndarray:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise CheckpointError("contains a NumPy array whose state is not a tuple of 5")
        shape, dtype, fortran, content = state[-4:]
        return self._array(dtype, shape, content, "F" if fortran else "C")

    def _array(self, dtype: Any, shape: Any, content: Any, order: Any = "C") -> np.ndarray:
        dtype = dtype.dtype if isinstance(dtype, Unfinished) else dtype
        shape = _integers(shape, "shape")
        if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
            raise CheckpointError("contains a NumPy array without a type")
        content = content.encode("latin1") if isinstance(content, str) else content  # as Python 2 wrote it
        expected = math.prod(shape) * dtype.itemsize
        if not isinstance(content, (bytes, bytearray)) or len(content) != expected:
            raise CheckpointError(
                f"contains a NumPy array of shape {shape} and type {dtype}, whose content is not {expected} bytes"
            )
        # NumPy stores at least one character per string.
        self.budget.spend(math.prod(shape) * (dtype.itemsize or 4))
        array = np.zeros(shape, dtype, order)
        if expected:
            given = np.frombuffer(content, dtype)
            if (
                dtype.kind == "U"
                and given.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder)).max() > sys.maxunicode
            ):
                raise CheckpointError("contains a NumPy string with characters that do not exist")
            array[...] = given.reshape(shape, order=order)
        return array

    def table(self) -> dict[str, Any]:
        """Returns NumPy's functions and types by their full names, which NumPy 2 changed."""
        table: dict[str, Any] = {"numpy.dtype": Function(self.dtype), "numpy.ndarray": _NDARRAY}
        for core in ("numpy.core", "numpy._core"):
            table |= {
                f"{core}.multiarray.scalar": Function(self.scalar),
                f"{core}.multiarray._reconstruct": Function(self.reconstruct),
                f"{core}.numeric._frombuffer": Function(self.from_buffer),
            }
        return table


_NDARRAY = TypeName("numpy.ndarray")


def _byte_order(state: Any) -> Any:
    """Returns the byte order in the state of a NumPy type; everything else in it follows from the type's code."""
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
        raise CheckpointError("contains a NumPy type without a byte order")
    # Types of one byte per element have no order, which NumPy takes as native.
    return state[1]


class PlainTypes:
    """Functions that build Python's own types.

    Args:
        budget: Memory for copies.
    """

    def __init__(self, budget: Budget):
        self.budget = budget

    def encode(self, text: Any = "", encoding: Any = "utf-8", *_: Any) -> bytes:
        """Builds bytes, which pickles of protocol 2 contain as text."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
            raise CheckpointError("contains bytes that are not encoded as latin1")
        self.budget.spend(len(text))
        return text.encode(encoding)

    def bytearray(self, content: Any = b"", encoding: Any = None) -> bytearray:
        """Builds a bytearray from bytes."""
        content = self.encode(content, encoding) if isinstance(content, str) else content
        if not isinstance(content, (bytes, bytearray)):
            raise CheckpointError("contains a bytearray without its content")
        self.budget.spend(len(content))
        return bytearray(content)

    def _items(self, items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set, frozenset, dict)):
            raise CheckpointError(f"builds a container from a {type(items).__name__}")
        self.budget.spend(64 * len(items))
        return items

    def ordered_dict(self, *items: Any) -> OrderedDict[Any, Any]:
        """Builds an OrderedDict, empty or from pairs."""
        pairs = self._items(*items)
        if isinstance(pairs, dict):
            return OrderedDict(pairs)
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise CheckpointError("contains an OrderedDict that is not built from pairs")
        return OrderedDict((check_key(key), value) for key, value in pairs)

    def counter(self, *counts: Any) -> Counter[Any]:
        """Builds a Counter from a dict."""
        counts = self._items(*counts)
        if isinstance(counts, dict) and all(type(count) in (int, float) for count in counts.values()):
            return Counter(counts)
        raise CheckpointError("contains a Counter that is not built from a dict of numbers")

    def set(self, *items: Any) -> set[Any]:
        """Builds a set."""
        return {check_key(item) for item in self._items(*items)}

    def namespace(self, *arguments: Any) -> argparse.Namespace:
        """Builds an empty Namespace."""
        if arguments:
            raise CheckpointError("contains an argparse.Namespace with positional arguments")
        return argparse.Namespace()

    def complex(self, real: Any = 0.0, imaginary: Any = 0.0) -> complex:
        """Builds a complex number."""
        if type(real) not in (int, float) or type(imaginary) not in (int, float):
            raise CheckpointError("contains a complex number whose parts are not numbers")
        return complex(real, imaginary)

    def table(self) -> dict[str, Any]:
        """Returns Python's types by their full names."""
        return {
            "_codecs.encode": Function(self.encode),
            "builtins.bytes": Function(lambda: b""),  # how pickles of protocol 2 write empty bytes
            "builtins.bytearray": Function(self.bytearray),
            "builtins.set": Function(self.set),
            "builtins.frozenset": Function(lambda *items: frozenset(self.set(*items))),
            "builtins.complex": Function(self.complex),
            "collections.OrderedDict": Function(self.ordered_dict),
            "collections.Counter": Function(self.counter),
            "argparse.Namespace": Function(self.namespace),
            # Swin's training script and its many descendants save their settings. They are read as plain dicts.
            "yacs.config.CfgNode": Function(self.ordered_dict),
        }
