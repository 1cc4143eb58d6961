"""The config.json of saved models."""

from __future__ import annotations

from typing import Any

import pytest

from attnzoo.zoo.weights.saved_config import build_config

from .small_models import small


def build(model: Any, **options: Any) -> dict[str, Any]:
    names = ("class_names", "preprocessing", "license", "tag", "model_args")
    return build_config(model, *(options.get(name) for name in names))


def test_fields_of_other_weights_are_left_out():
    config = build(small(), tag="mine")
    fields = config["pretrained_cfg"]
    assert not {"url", "hf_hub_id", "sha256", "top1", "verified", "note"} & fields.keys()
    assert (fields["tag"], fields["num_classes"], fields["mean"]) == ("mine", 5, [0.485, 0.456, 0.406])
    assert set(config["attnzoo"]["versions"]) == {"attnzoo", "torch", "timm"}


def test_the_head_is_described_as_it_is_now():
    model = small()
    model.reset_classifier(3, "max")
    config = build(model)
    assert config["num_classes"] == 3
    assert config["model_args"]["global_pool"] == "max"


def test_feature_maps_have_no_class_names():
    config = build(small(features_only=True, out_indices=(0, 2)), class_names=["a"])
    assert "label_names" not in config
    assert config["model_args"]["out_indices"] == [0, 2]
    assert "feature_cls" not in config["model_args"]
    assert build(small(features_only=True, feature_cls="dict"))["model_args"]["feature_cls"] == "dict"


@pytest.mark.parametrize("value", [{1}, float("nan"), object(), [float("inf")]])
def test_values_without_a_json_form_are_rejected(value: Any):
    with pytest.raises(ValueError, match=r"depths=.* cannot be written to a JSON file"):
        build(small(), model_args={"depths": value})
