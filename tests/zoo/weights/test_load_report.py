"""Reports describe what was loaded, converted and left out."""

from __future__ import annotations

import dataclasses

from attnzoo.zoo.weights import LoadReport
from attnzoo.zoo.weights.load_report import list_names

REPORT = LoadReport("'a.pth'", "training checkpoint", "model", True, True, ("module.",), ("neck",), 3, ("qkv",), 7)


def test_a_report_describes_how_the_weights_were_found() -> None:
    assert str(REPORT) == (
        "Loaded 7 tensors from 'a.pth': a training checkpoint, under 'model' (its averaged weights). Removed prefixes: "
        "'module.'. Left out: neck. 3 names were translated to the model's. 1 tensors were computed from the "
        "checkpoint's: qkv."
    )
    assert REPORT.conversions == ()


def test_every_conversion_has_a_sentence() -> None:
    report = dataclasses.replace(
        REPORT,
        head_classes=(5, 7),
        adopted_classes=5,
        in_chans=(3, 1),
        kept=("a",),
        unexpected=("b",),
        mismatched=("c",),
    )
    for sentence, text in zip(
        report.conversions,
        (
            "has 5 classes, the model has 7",
            "to the 5 classes",
            "from 3 to 1 input",
            "values: a.",
            "left out: b.",
            "out: c.",
        ),
        strict=True,
    ):
        assert text in sentence
        assert sentence in str(report)
    headless = dataclasses.replace(REPORT, head_classes=(5, 0))
    assert "because the model has no head" in headless.conversions[0]


def test_long_lists_are_shortened() -> None:
    assert list_names("abc") == "a, b, c"
    assert list_names(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7, and 2 more"
