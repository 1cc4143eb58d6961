"""Model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from attnzoo import save_pretrained
from attnzoo.zoo.weights.card import model_card

from .small_models import small

CLASSES = ["cat", "dog", "emu", "fox", "gnu"]


def test_a_saved_card_has_everything_a_reader_needs(tmp_path: Path):
    folder = save_pretrained(
        small(),
        tmp_path / "mine",
        class_names=CLASSES,
        metrics={"top-1 accuracy (%)": 81.25},
        license="cc by-nc, see the paper",
        description="Trained on animals.",
        repo_id="owner/animals",
    )
    card = (folder / "README.md").read_text()
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert "license: other" in head.splitlines()
    assert "- image-classification" in head.splitlines()
    for text in (
        "# owner/animals",
        "Trained on animals.",
        "| top-1 accuracy (%) | 81.25 |",
        'attnzoo.create_model("hf-hub:owner/animals", pretrained=True)',
        "cat, dog, emu, fox, gnu.",
        "cc by-nc, see the paper",
        "Neighborhood Attention Transformer",
        "into 5 classes",
    ):
        assert text in body, text


def config(**fields: Any) -> dict[str, Any]:
    images = {"tag": "mine", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    return {"architecture": "nat_mini", "num_classes": 5, "model_args": {}, "pretrained_cfg": images, **fields}


@pytest.mark.parametrize(
    ("fields", "expected", "absent"),
    [
        ({}, ["# nat_mini.mine", "into 5 classes", "logits = model", "Not specified."], ["## Classes", "## Metrics"]),
        ({"num_classes": 0}, ["without a classifier", "logits = model"], ["0 classes"]),
        (
            {"model_args": {"features_only": True}},
            ["returns feature maps", "maps = model(images)"],
            ["features_only=True"],
        ),
        ({"label_names": list(map(str, range(40)))}, ["## Classes", "28, 29, and 10 more"], ["30, 31"]),
        ({"model_args": {"depths": [1]}}, ['- Arguments: `{"depths": [1]}`'], []),
    ],
)
def test_a_card_has_the_sections_that_apply(fields: dict[str, Any], expected: list[str], absent: list[str]):
    card = model_card(config(**fields), parameters=1_234_567)
    assert "- Parameters: 1.23 M" in card
    assert all(text in card for text in expected)
    assert not any(text in card for text in absent)


def test_the_header_is_what_the_hub_reads():
    data = huggingface_hub.ModelCard(model_card(config(), parameters=1)).data.to_dict()
    assert data["pipeline_tag"] == "image-classification"
    assert (data["library_name"], data["tags"]) == ("attnzoo", ["attnzoo", "timm", "image-classification"])
    assert "license" not in data


def test_text_of_the_user_is_not_interpreted():
    card = model_card(config(), parameters=1, description="{{ 1 + 1 }} {% if %}", metrics={"{{ a }}": 0.5})
    assert "{{ 1 + 1 }} {% if %}" in card
    assert "| {{ a }} | 0.5 |" in card
