"""Values in pickles are rebuilt with equal values, and every size, offset and state in them is checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._utils

from attnzoo.zoo.weights import CheckpointError, safe_load
from attnzoo.zoo.weights.pickled_types import Budget, check_key
from support.crafted_checkpoints import (
    array,
    call,
    dtype,
    dtype_state,
    mapping,
    name,
    number,
    raw_bytes,
    scalar,
    text,
    write_pickle,
)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_values_are_equal(tmp_path: Path, protocol: int) -> None:
    saved = {
        "arrays": [np.array([[0, 1, 1], [1, 0, 1]], code) for code in ("i1", "u2", ">i4", "f2", "<f8", "c16", "?")],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 4), "f4"),
        "strings": np.array(["cat", "höher"]),
        "bytes": np.array([b"a", b"bc"]),
        "scalars": [np.float64(1.5), np.float32(2.5), np.int64(-3), np.bool_(True), np.str_("x"), np.complex64(1j)],
        "dtypes": [np.dtype("f4"), np.dtype(">i8"), np.dtype("U3")],
    }
    saved["same"] = saved["arrays"][0]
    torch.save(saved, tmp_path / "a.pth", pickle_protocol=protocol)
    loaded = safe_load(tmp_path / "a.pth")
    for kind in ("arrays", "scalars"):
        for one, other in zip(loaded[kind], saved[kind], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    for kind in ("fortran", "empty", "strings", "bytes"):
        assert loaded[kind].dtype == saved[kind].dtype
        np.testing.assert_array_equal(loaded[kind], saved[kind])
    assert loaded["dtypes"] == saved["dtypes"]
    assert loaded["same"] is loaded["arrays"][0]


class Rebuilt:
    """Pickles as a call of torch's function that rebuilds a tensor on a storage of four elements."""

    def __init__(self, size: Any, stride: Any, offset: Any = 0):
        storage = torch.ones(4).untyped_storage()
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        self.arguments = (typed, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


TENSORS: dict[str, tuple[Callable[[], Any], str]] = {
    "size over the storage": (lambda: Rebuilt((5,), (1,)), "exceeds its storage"),
    "stride over the storage": (lambda: Rebuilt((2,), (4,)), "exceeds its storage"),
    "offset over the storage": (lambda: Rebuilt((1,), (1,), 4), "exceeds its storage"),
    "too many elements": (lambda: Rebuilt((2**40, 2**40), (0, 0)), "too large"),
    "negative stride": (lambda: Rebuilt((2,), (-1,), 3), "not a number from 0"),
    "float as a size": (lambda: Rebuilt((2.0,), (1,)), "not a number from 0"),
    "huge expanded tensor": (lambda: Rebuilt((2**40,), (0,)), "requests more than"),
    "many dimensions": (lambda: Rebuilt((1,) * 70, (1,) * 70), "at most 16"),
    "more sizes than strides": (lambda: Rebuilt((1, 1), (1,)), "2 sizes and 1 strides"),
    "sparse": (lambda: torch.ones(2, 2).to_sparse(), "a sparse tensor"),
    "meta": (lambda: torch.ones(2, device="meta"), "meta device"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_outside_of_their_storage_and_special_ones_are_refused(tmp_path: Path, case: str) -> None:
    build, says = TENSORS[case]
    torch.save({"a": build(), "weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=says):
        safe_load(tmp_path / "a.pth")


F8 = dtype("f8") + dtype_state(-1, -1, 0, order="<")
OTHERS = {
    "fields": (array((2,), dtype("V8"), raw_bytes(b"x" * 16)), "NumPy type 'V8'"),
    "objects": (array((1,), dtype("O8"), b"]"), "NumPy type 'O8'"),
    "long code": (array((1,), dtype("S99999"), raw_bytes(b"")), "more than 65536"),
    "short content": (array((1000,), F8, raw_bytes(b"x")), "whose content is not 8000 bytes"),
    "long content": (scalar(F8, raw_bytes(b"x" * 9)), "whose content is not 8 bytes"),
    "negative shape": (array((-1,), F8, raw_bytes(b"")), "not a number from 0"),
    "huge empty strings": (array((2**30,) * 1, dtype("S0"), raw_bytes(b"")), "requests more than"),
    "invalid characters": (scalar(dtype("U1"), raw_bytes(b"\xff" * 4)), "characters that do not exist"),
    "type as a shape": (array((1,), number(3), raw_bytes(b"")), "without a type"),
    "order": (dtype("f8") + dtype_state(8, 8, 0, order="x"), "without a byte order"),
    "subclass": (call(name("numpy.core.multiarray", "_reconstruct"), name("torch", "Tensor"), b")"), "subclass"),
    "bytearray of a size": (call(name("builtins", "bytearray"), number(2**31 - 1)), "without its content"),
    "codec": (call(name("_codecs", "encode"), text("x"), text("rot13")), "latin1"),
    "set of nested tuples": (call(name("builtins", "set"), b"]" + b")" + b"\x85" * 9 + b"a"), "key of type tuple"),
    "dict of numbers": (call(name("collections", "OrderedDict"), b"](K\x01K\x02e"), "not built from pairs"),
    "counter of strings": (
        call(name("collections", "Counter"), b"}" + text("a") + text("b") + b"s"),
        "dict of numbers",
    ),
    "device": (call(name("torch", "device"), number(3)), "without a name"),
    "parameter": (call(name("torch._utils", "_rebuild_parameter"), number(3), b"\x89", b"N"), "without a tensor"),
    "complex": (call(name("builtins", "complex"), text("1j")), "not numbers"),
    "attribute of the class": (
        name("argparse", "Namespace") + b")\x81}" + text("_get_kwargs") + b"Nsb",
        "of arguments",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_arguments_are_checked(tmp_path: Path, case: str) -> None:
    instructions, says = OTHERS[case]
    with pytest.raises(CheckpointError, match=says):
        safe_load(write_pickle(tmp_path / "a.pth", instructions))


@pytest.mark.parametrize("size", [2**30, 0, -8, 3])
def test_item_sizes_in_the_state_of_a_type_are_ignored(tmp_path: Path, size: int) -> None:
    strings = dtype("S2") + dtype_state(size, 1, 0)
    loaded = safe_load(write_pickle(tmp_path / "a.pth", mapping(a=array((2,), strings, raw_bytes(b"abcd")))))
    assert loaded["a"].tolist() == [b"ab", b"cd"]


def test_copies_are_limited_by_the_size_of_the_file(tmp_path: Path) -> None:
    copied = raw_bytes(b"x" * 100_000) + b"q\x010"
    copies = b"".join(call(name("builtins", "bytearray"), b"h\x01") for _ in range(2000))
    with pytest.raises(CheckpointError, match="requests more than"):
        safe_load(write_pickle(tmp_path / "a.pth", copied + b"(" + copies + b"l"))


def test_a_budget_is_shared_by_all_requests() -> None:
    budget = Budget(10)
    budget.spend(10)
    with pytest.raises(CheckpointError, match="more than the 10 bytes"):
        budget.spend(1)


def test_keys_are_numbers_strings_and_tuples_of_them() -> None:
    for key in ("a", b"a", 1, 2.0, None, True, (1, "a"), np.int64(3)):
        assert check_key(key) == key
    for key in ((1, (2,)), frozenset({1}), torch.ones(1), []):
        with pytest.raises(CheckpointError, match="has a key of type"):
            check_key(key)
