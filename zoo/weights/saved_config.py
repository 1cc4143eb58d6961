"""The config.json of a saved model, in the format of timm's `save_for_hf`.

timm's own function is not used: it copies `pretrained_cfg` with the checksum and accuracy of other weights, averages
the mean and std of models with one input channel, and cannot save `FeatureMaps`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import timm.models
import torch

from ... import __version__
from ...backbones.common.features import FeatureMaps
from ...backbones.registry import PretrainedCfg, model_arguments
from ...names import unknown_name
from ..preprocessing import Preprocessing

FORMAT_VERSION = 2
"""Version of the entry "attnzoo" in config.json."""

TIMM_PREFIX = "attnzoo_"
"""Prefix of the models' names in timm's registry, and therefore of the architecture in config.json."""

# Fields of a published configuration that describe other weights than those that are saved.
_EXCLUDED_FIELDS = {
    "url", "file", "hf_hub_id", "hf_hub_filename", "sha256", "verified", "broken", "top1", "origin_url", "note",
}  # fmt: skip

_TIMM_FIELDS = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)}
_PREPROCESSING_FIELDS = {field.name for field in dataclasses.fields(Preprocessing)}


def build_config(
    backbone: Any,
    class_names: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    license: str | None,
    tag: str | None,
    model_args: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Builds the content of config.json.

    Args:
        backbone: Model to save.
        class_names: See `save_pretrained`.
        preprocessing: See `save_pretrained`.
        license: See `save_pretrained`.
        tag: See `save_pretrained`.
        model_args: See `save_pretrained`.

    Raises:
        ValueError: An argument is wrong, unknown, or cannot be written to JSON.
    """
    is_feature_maps = isinstance(backbone, FeatureMaps)
    body = backbone.body if is_feature_maps else backbone
    classes = int(getattr(backbone, "num_classes", 0))
    pretrained_cfg: dict[str, Any] = {**backbone.pretrained_cfg}
    architecture = pretrained_cfg.pop("architecture")
    arguments = _arguments_of(body, architecture, model_args)
    names = pretrained_cfg.pop("label_names", None) if class_names is None else class_names
    versions = {"attnzoo": __version__, "torch": str(torch.__version__), "timm": timm.__version__}
    own: dict[str, Any] = {"format": FORMAT_VERSION, "versions": versions}
    if is_feature_maps:
        arguments |= {"features_only": True, "out_indices": list(backbone.out_indices)}
        arguments |= {"feature_cls": "dict"} if backbone.returns_dict else {}
        names = None
    elif "global_pool" in (model_arguments(architecture) or ()):
        arguments["global_pool"] = backbone.head.global_pool
    if names is not None and len(names) != classes:
        raise ValueError(f"class_names has {len(names)} names, but the model has {classes} classes.")
    fields = _update_preprocessing(pretrained_cfg, preprocessing or {})
    fields |= {"license": license} if license is not None else {}
    fields |= {"tag": tag or "saved", "num_classes": classes}
    fields = {name: _to_json(name, value) for name, value in fields.items()}
    # timm and transformers build timm's class from `pretrained_cfg`, so other fields are in the entry of attnzoo.
    own["pretrained_cfg"] = {name: value for name, value in fields.items() if name not in _TIMM_FIELDS}
    config = {
        "architecture": TIMM_PREFIX + architecture,
        "num_classes": classes,
        "num_features": body.num_features,
        "model_args": arguments,
        "pretrained_cfg": {name: value for name, value in fields.items() if name in _TIMM_FIELDS},
        "attnzoo": own,
    }
    return config if names is None else {**config, "label_names": [str(name) for name in names]}


def _arguments_of(body: Any, architecture: str, model_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the arguments that a model was built with, except for the number of classes."""
    arguments = getattr(body, "model_args", None) if model_args is None else model_args
    if arguments is None:
        raise ValueError(
            f"The arguments that this {architecture} was built with are unknown: pass them as model_args=dict(...), or "
            "build it with attnzoo.create_model."
        )
    allowed = model_arguments(architecture)
    for name in arguments:
        if allowed is not None and name not in allowed:
            raise ValueError(unknown_name(f"argument of {architecture}", name, allowed))
    return {name: _to_json(name, value) for name, value in arguments.items() if name != "num_classes"}


def _update_preprocessing(pretrained_cfg: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration that hold for any weights, with those that the user gave."""
    allowed = (set(PretrainedCfg.__dataclass_fields__) | _PREPROCESSING_FIELDS) - {*_EXCLUDED_FIELDS, "label_names"}
    for name in preprocessing:
        if name not in allowed:
            raise ValueError(unknown_name("field of preprocessing", name, allowed, max_listed=0))
    given = {name: value for name, value in preprocessing.items() if value is not None}
    images = {name: value for name, value in given.items() if name in _PREPROCESSING_FIELDS}
    fields = {name: value for name, value in pretrained_cfg.items() if name not in _EXCLUDED_FIELDS}
    fields = Preprocessing.from_dict(images).to_cfg(fields) | given
    return {name: value for name, value in fields.items() if name not in preprocessing or name in given}


def saved_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing and class names in the content of a config.json.

    Raises:
        ValueError: A field has a wrong type.
    """
    own = config.get("attnzoo")
    fields = {
        **_mapping(config.get("pretrained_cfg")),
        **_mapping(own.get("pretrained_cfg") if isinstance(own, Mapping) else None),
        "label_names": config.get("label_names") or _mapping(config.get("pretrained_cfg")).get("label_names"),
    }
    if not isinstance(fields["label_names"], list):  # timm also has the form {index: name}, with gaps
        fields["label_names"] = None
    return Preprocessing.from_pretrained_cfg(fields)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _to_json(name: str, value: Any) -> Any:
    """Converts a value to JSON's types; raises a ValueError if that is impossible."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The argument {name}={value!r} cannot be written to a JSON file: only finite numbers, strings, and lists "
            "and dicts of them can."
        ) from error
