"""Collects what is wrong with an annotation file, so that one message names all kinds of errors with their entries."""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

MOST_NAMED = 10
"""Number of entries with one kind of error that are named; the others are counted."""

ID_LIMIT = 2**63
"""Ids are stored as 64-bit integers."""

MAX_PIXELS = 2**31 - 1
"""Largest number of pixels of an image, to recognize wrong sizes; image readers have lower limits."""

_MISSING = object()

_short = reprlib.Repr()  # does not descend into deeply nested values, whose repr would exceed the recursion limit
_short.maxstring = _short.maxother = _short.maxlong = 40


class FileErrors:
    """Errors of an annotation file.

    Args:
        file: Path of the file, for the message.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = os.fspath(file)
        self._cases: dict[str, list[str]] = {}

    def add(self, rule: str, cases: Iterable[str]) -> None:
        """Adds entries that break a rule.

        Args:
            rule: What is required, as a sentence without a full stop: "bbox must be four numbers".
            cases: The entries and what they have: "annotation 7 has None".
        """
        cases = list(cases)
        if cases:
            self._cases.setdefault(rule, []).extend(cases)

    def raise_if_any(self) -> None:
        """Raises a ValueError that names the file, and for each rule up to MOST_NAMED entries that break it."""
        if not self._cases:
            return
        lines = []
        for rule, cases in self._cases.items():
            more = f", ... ({len(cases) - MOST_NAMED} more)" if len(cases) > MOST_NAMED else ""
            lines.append(f"- {rule}: {', '.join(cases[:MOST_NAMED])}{more}.")
        raise ValueError(f"{self.file} has errors:\n" + "\n".join(lines))


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of the entries of an annotation file.

    Attributes:
        key: Its key.
        rule: What it must be: "must be an integer".
        is_valid: Checks one value.
        optional: Whether entries may lack it.
    """

    key: str
    rule: str
    is_valid: Callable[[Any], bool]
    optional: bool = False


def check_entries(
    entries: Sequence[Any],
    fields: Sequence[Field],
    kind: str,
    errors: FileErrors,
    name: Callable[[int], str] | None = None,
) -> bool:
    """Checks the entries of a list, field by field.

    Args:
        entries: The list, such as the content of "annotations".
        fields: Fields to check.
        kind: What an entry is, in the singular: "annotation".
        errors: Takes the entries that are wrong.
        name: Returns the name of an entry by its index; by default its kind and id.

    Returns:
        Whether all entries are correct.
    """
    name = name or (lambda number: entry_name(kind, entries[number], number))
    wrong = [number for number, entry in enumerate(entries) if type(entry) is not dict]
    errors.add("entries must be objects", (f"{name(number)} is {shortened(entries[number])}" for number in wrong))
    if wrong:
        return False
    correct = True
    for field in fields:
        is_valid, absent = field.is_valid, field.optional
        values = [entry.get(field.key, _MISSING) for entry in entries]
        wrong = [n for n, value in enumerate(values) if not (absent if value is _MISSING else is_valid(value))]
        given = ("none" if values[number] is _MISSING else shortened(values[number]) for number in wrong)
        errors.add(
            f"{field.key} {field.rule}",
            (f"{name(number)} has {value}" for number, value in zip(wrong, given, strict=True)),
        )
        correct &= not wrong
    return correct


def check_references(
    annotations: Sequence[Mapping[str, Any]],
    image_ids: Collection[int],
    category_ids: Collection[int],
    errors: FileErrors,
) -> None:
    """Checks that the images and categories of annotations are in the file."""
    for kind, known in (("image", frozenset(image_ids)), ("category", frozenset(category_ids))):
        key = f"{kind}_id"
        errors.add(
            f"the {kind} of an annotation must be in the file",
            (
                f"{entry_name('annotation', entry, number)} has {key} {entry[key]}"
                for number, entry in enumerate(annotations)
                if entry[key] not in known
            ),
        )


def check_unique(values: Sequence[Any], kind: str, errors: FileErrors) -> None:
    """Checks that ids, except for None, occur only once.

    Args:
        values: The ids.
        kind: What they are ids of, in the plural: "images".
        errors: Takes those that occur more often.
    """
    errors.add(f"ids of {kind} must be unique", (f"{value} is used twice" for value in repeated(values)))


def entry_name(kind: str, entry: Any, number: int) -> str:
    """Returns the name of an entry for messages: its kind with its id, or with its number in the list from 0 on."""
    if isinstance(entry, dict) and is_id(entry.get("id")):
        return f"{kind} {entry['id']}"
    if isinstance(entry, dict) and "id" not in entry and is_id(entry.get("image_id")):
        return f"{kind} number {number} (image {entry['image_id']})"
    return f"{kind} number {number}"


def repeated(values: Sequence[Any]) -> list[Any]:
    """Returns the values that occur more than once, without None."""
    seen: set[Any] = set()
    again: dict[Any, None] = {}
    for value in values:
        if value in seen and value is not None:
            again[value] = None
        seen.add(value)
    return list(again)


def shortened(value: Any) -> str:
    """Returns the beginning of a value's representation."""
    return _short.repr(value)


def is_id(value: Any) -> bool:
    """Reports whether a value is an integer of at most 64 bits."""
    return type(value) is int and -ID_LIMIT <= value < ID_LIMIT


def is_optional_id(value: Any) -> bool:
    """Reports whether a value is an id or null."""
    return value is None or is_id(value)


def is_name(value: Any) -> bool:
    """Reports whether a value can be a class name: text, or an integer."""
    return is_id(value) or (type(value) is str and _is_unicode(value))


def is_flag(value: Any) -> bool:
    """Reports whether a value is 0, 1, true, false or null."""
    return value is None or (type(value) in (int, bool) and value in (0, 1))


def is_finite(value: Any) -> bool:
    """Reports whether a value is a finite number."""
    return type(value) in (int, float) and -1e30 < value < 1e30  # NaN compares as false


def is_box(value: Any) -> bool:
    """Reports whether a value is a list of four finite numbers."""
    return type(value) is list and len(value) == 4 and all(map(is_finite, value))


def is_side(value: Any) -> bool:
    """Reports whether a value is a length in pixels: a positive whole number, possibly written as 480.0."""
    return type(value) in (int, float) and 1 <= value <= MAX_PIXELS and value == int(value)


def is_file_name(value: Any) -> bool:
    """Reports whether a value is a path relative to the folder of the images that does not lead out of it."""
    return (
        type(value) is str
        and bool(value)
        and "\0" not in value
        and not value.startswith("/")
        and ".." not in value.split("/")
        and _is_unicode(value)
    )


def _is_unicode(text: str) -> bool:
    """Reports whether a text has no lone surrogates, which JSON can express but UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


IMAGE_ID = Field("id", "must be an integer of at most 64 bits", is_id)
SIZE = (
    Field("height", "must be a positive integer, in pixels", is_side),
    Field("width", "must be a positive integer, in pixels", is_side),
)
FILE_NAME = Field("file_name", "must be a path inside of the folder of the images", is_file_name)
CATEGORY = (
    Field("id", "must be an integer of at most 64 bits", is_id),
    Field("name", "must be a text", is_name),
)
INSTANCE = (
    Field("id", "must be an integer of at most 64 bits", is_optional_id, optional=True),
    Field("image_id", "must be an integer of at most 64 bits", is_id),
    Field("category_id", "must be an integer of at most 64 bits", is_id),
    Field("bbox", "must be [x, y, width, height], four finite numbers in pixels", is_box),
    Field("area", "must be a finite number", is_finite, optional=True),
    Field("iscrowd", "must be 0 or 1", is_flag, optional=True),
    Field("ignore", "must be 0 or 1", is_flag, optional=True),
)
