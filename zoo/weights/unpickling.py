"""Interprets pickles as data: a short list of instructions, and only functions of `pickled_types`.

A pickle is a program. Python's unpickler calls what the program names, and torch's restricted one still passes numbers
from the file to functions that trust them: sizes of NumPy's types, of tensors, and of buffers to allocate. Here a
file can call only functions that check every argument, and the memory that it can request is limited.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, cast

from .errors import CheckpointError
from .pickled_types import Function, Unfinished, build, check_key

MAX_INSTRUCTIONS = 5_000_000
"""Largest number of instructions of a pickle; a checkpoint of a thousand tensors has some ten thousand."""

MAX_NESTING = 200
"""Largest number of containers inside each other."""

_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}
# Names of Python 2, which torch.save still writes.
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Unpickler:
    """Reads one pickle.

    Args:
        find: Returns the object for a full name such as "torch._utils._rebuild_tensor_v2"; raises a CheckpointError for
            names that are not allowed.
        load_storage: Returns the storage for a persistent id.
        allowed: Classes whose state may be set besides those of `pickled_types`.
    """

    def __init__(
        self,
        find: Callable[[str], Any],
        load_storage: Callable[[tuple[Any, ...]], Any],
        allowed: tuple[type, ...] = (),
    ):
        self.find, self.load_storage, self.allowed = find, load_storage, allowed
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self, file: Any) -> Any:
        """Interprets a pickle and returns its value.

        Args:
            file: File-like object with `read` and `readline` that never returns more than it has.

        Raises:
            CheckpointError: The pickle names something that is not allowed.
            Exception: Any other exception means that it is damaged.
        """
        for count, (opcode, value, _) in enumerate(pickletools.genops(file)):
            if count >= MAX_INSTRUCTIONS:
                raise CheckpointError(f"contains a pickle of more than {MAX_INSTRUCTIONS} instructions")
            name, argument = opcode.name, cast(Any, value)
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _GETS:
                self.stack.append(self.memo[argument])
            elif name in _PUTS:
                self._put(len(self.memo) if argument is None else argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name == "MARK":
                self.marks.append(len(self.stack))
            elif name in _TUPLES:
                self._require(_TUPLES[name])
                items = tuple(self.stack[-_TUPLES[name] :])
                self.stack[-_TUPLES[name] :] = [items]
            elif name == "STOP":
                result = self._pop()
                if self.stack or self.marks:
                    raise ValueError("the pickle ends in the middle of a container")
                check_nesting(result)
                return result
            elif name in self._HANDLERS:
                self._HANDLERS[name](self, argument)
            elif name not in _IGNORED:
                raise CheckpointError(f"contains the pickle instruction {name}, which no checkpoint needs")
        raise AssertionError("genops ends with STOP or raises an error")

    def _require(self, count: int) -> None:
        """Raises an IndexError if there are fewer values on the stack since the last mark."""
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise IndexError("an instruction needs more values than the stack has")

    def _pop(self) -> Any:
        self._require(1)
        return self.stack.pop()

    def _pop_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self) -> Any:
        self._require(1)
        return self.stack[-1]

    def _put(self, key: int) -> None:
        value = self._top()
        self.memo[key] = value
        if isinstance(value, Unfinished):
            value.memo_keys.append(key)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.find(f"{_MODULES.get(module, module)}.{name}"))

    def _stack_global(self, _: None) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise CheckpointError("contains a class whose name is not a string")
        self._global(f"{module} {name}")

    def _call(self, _: None) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise CheckpointError(f"calls a {type(function).__name__}, which is not a function")
        self.stack.append(function.call(*arguments))

    def _new_object(self, _: None) -> None:
        arguments, cls = self._pop(), self._pop()
        if not isinstance(cls, Function) or not isinstance(arguments, tuple):
            raise CheckpointError(f"builds an object of a {type(cls).__name__}, which is not a class")
        self.stack.append((cls.new or cls.call)(*arguments))

    def _build(self, _: None) -> None:
        state, instance = self._pop(), self._top()
        result = build(instance, state, self.allowed)
        if isinstance(instance, Unfinished):
            for key in instance.memo_keys:
                self.memo[key] = result
        self.stack[-1] = result

    def _append(self, _: None) -> None:
        self._extend([self._pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise CheckpointError(f"appends to a {type(target).__name__}, which is not a list")
        target.extend(items)

    def _set_item(self, _: None) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _set_items(self, _: None) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            raise CheckpointError(f"sets items of a {type(target).__name__}, which is not a dict")
        target.update(_pairs(items))

    def _add_items(self, _: None) -> None:
        items, target = self._pop_mark(), self._top()
        if not isinstance(target, set):
            raise CheckpointError(f"adds items to a {type(target).__name__}, which is not a set")
        target.update(check_key(item) for item in items)

    def _list(self, _: None) -> None:
        self.stack.append(self._pop_mark())

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def _dict(self, _: None) -> None:
        self.stack.append(_pairs(self._pop_mark()))

    def _frozenset(self, _: None) -> None:
        self.stack.append(frozenset(check_key(item) for item in self._pop_mark()))

    def _persistent(self, _: None) -> None:
        identity = self._pop()
        if not isinstance(identity, tuple):
            raise CheckpointError(f"refers to a {type(identity).__name__} outside of the pickle, not to a storage")
        self.stack.append(self.load_storage(identity))

    _HANDLERS: Mapping[str, Callable[..., Any]] = {
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _call,
        "NEWOBJ": _new_object,
        "BUILD": _build,
        "APPEND": _append,
        "APPENDS": _appends,
        "SETITEM": _set_item,
        "SETITEMS": _set_items,
        "ADDITEMS": _add_items,
        "LIST": _list,
        "TUPLE": _tuple,
        "DICT": _dict,
        "FROZENSET": _frozenset,
        "BINPERSID": _persistent,
        "POP": lambda self, _: self._pop(),
        "POP_MARK": lambda self, _: self._pop_mark(),
    }


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise IndexError("a key without a value")
    return {check_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return [vars(value)] if hasattr(value, "__dict__") and type(value).__module__ == "argparse" else []


def check_nesting(value: Any, limit: int = MAX_NESTING) -> None:
    """Raises a CheckpointError if containers are inside each other more than `limit` times.

    Comparing, copying or printing deeper ones exceeds Python's limit of recursion. A container inside itself counts
    once.
    """
    heights: dict[int, int] = {}
    open_ids: set[int] = set()
    # Each entry is a container and its children that were not visited yet.
    path: list[tuple[Any, list[Any]]] = [(value, _children(value))]
    while path:
        if len(path) > limit:
            raise CheckpointError(f"contains more than {limit} lists, tuples or dicts inside each other")
        current, remaining = path[-1]
        open_ids.add(id(current))
        if remaining:
            child = remaining.pop()
            height = heights.get(id(child))
            if height is None and id(child) not in open_ids and (grandchildren := _children(child)):
                path.append((child, grandchildren))
            elif height is not None and len(path) + height > limit:
                raise CheckpointError(f"contains more than {limit} lists, tuples or dicts inside each other")
        else:
            path.pop()
            open_ids.discard(id(current))
            heights[id(current)] = 1 + max((heights.get(id(child), 0) for child in _children(current)), default=0)
