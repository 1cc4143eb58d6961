"""The interpreter of pickles knows few instructions, and reads malformed ones as errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.weights import CheckpointError, safe_load
from attnzoo.zoo.weights.unpickling import MAX_NESTING, check_nesting
from support.crafted_checkpoints import name, text, write_pickle


@pytest.mark.parametrize(
    ("instructions", "says"),
    [
        (b"}" + b"(" * 10 + b"t", "middle of a container"),
        (b"r\xff\xff\xff\x7f", "more values than the stack has"),
        (b"h\x05", "damaged"),  # a memo key without a value
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x3fabc", "damaged"),  # 2**62 bytes, of which 3 are there
        (b"\x8b\xff\xff\xff\x7f", "damaged"),  # a number of 2**31 bytes
        (name("torch", "float32") + b")R", "calls a dtype, which is not a function"),
        (name("numpy", "ndarray") + b")\x81", "builds an object of a TypeName"),
        (b"}}b", "sets the state of a dict"),
        (b"K\x01K\x02a", "appends to a int"),
        (b"](K\x01ee", "damaged"),
        (b"}(K\x01u", "a key without a value"),
        (b"K\x01K\x02K\x03s", "sets items of a int"),
        (b"](K\x01\x90", "adds items to a list"),
        (b"K\x01Q", "refers to a int"),
        (b"(iposix\nsystem\n", "instruction INST"),
        (b"\x82\x01", "instruction EXT1"),
        (b"K\x01K\x02\x93", "name is not a string"),
        (text("os") + text("system") + b"\x93", r"contains os\.system"),
        (b")" + b"\x85" * 5000, f"more than {MAX_NESTING} lists, tuples or dicts"),
    ],
)
def test_hostile_instructions_are_refused(tmp_path: Path, instructions: bytes, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        safe_load(write_pickle(tmp_path / "a.pth", instructions))


def test_a_memo_key_of_two_billion_takes_no_memory(tmp_path: Path) -> None:
    assert safe_load(write_pickle(tmp_path / "a.pth", b"}r\xff\xff\xff\x7f")) == {}


def test_too_many_instructions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnzoo.zoo.weights.unpickling.MAX_INSTRUCTIONS", 100)
    with pytest.raises(CheckpointError, match="more than 100 instructions"):
        safe_load(write_pickle(tmp_path / "a.pth", b"N0" * 50 + b"N"))


def chain(length: int) -> list:
    value: list = [1]
    for _ in range(length - 1):
        value = [value]
    return value


def test_nesting_counts_the_longest_path() -> None:
    check_nesting(chain(50), limit=50)
    with pytest.raises(CheckpointError, match="more than 50"):
        check_nesting(chain(51), limit=50)
    inner = chain(30)
    check_nesting([inner, [inner]], limit=50)
    with pytest.raises(CheckpointError, match="more than 50"):
        check_nesting([inner, {"a": [[inner]] * 2, "b": _wrap(inner, 25)}], limit=50)


def _wrap(value: list, count: int) -> list:
    for _ in range(count):
        value = [value]
    return value


def test_a_list_inside_itself_and_shared_parts_are_visited_once() -> None:
    own: list = []
    own.append(own)
    check_nesting(own)
    shared: list = []
    for _ in range(100):
        shared = [shared, shared]  # 2**100 paths
    check_nesting(shared)
