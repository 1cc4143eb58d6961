"""`create_model`: builds a model by its name, with its published weights if wanted."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from ..backbones.common.checks import check_choice
from ..backbones.common.features import FEATURE_CLASSES, FeatureMaps
from ..backbones.registry import (
    PretrainedCfg,
    get_pretrained_cfg,
    get_tags,
    is_model,
    list_families,
    list_models,
    model_arguments,
    model_entrypoint,
    split_model_name_tag,
)
from ..names import unknown_name
from .preprocessing import Preprocessing
from .weights import DownloadError, LoadReport, load_weights
from .weights.saved_config import saved_preprocessing
from .weights.sources import read_model_config, split_source

_logger = logging.getLogger(__name__)

_DENSE = ("coco", "ade20k")
_WEIGHT_SOURCES = ("file", "url", "hf_hub_id")
_FIELDS = {field.name for field in dataclasses.fields(PretrainedCfg)}
# Fields of timm's configurations that have no meaning here. "state_dict" has one and is handled separately.
_TIMM_FIELDS = {
    "source", "custom_load", "min_input_size", "test_pool_size", "label_offset", "label_names", "label_descriptions",
    "description", "paper_name", "paper_ids", "notes", "transform",
}  # fmt: skip


def create_model(
    model_name: str,
    pretrained: bool | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_path_rate: float | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    feature_cls: Literal["list", "dict", "getter", "hook", "fx"] | None = None,
    output_stride: int = 32,
    dense: Literal["coco", "ade20k"] | None = None,
    pretrained_cfg: str | Mapping[str, Any] | PretrainedCfg | None = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    use_ema: bool | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Builds a model.

    Args:
        model_name: A name from `list_models()`, with or without the tag of a checkpoint ("nat_mini", "nat_mini.in1k");
            or `hf-hub:owner/name` or `local-dir:folder`, whose `config.json` in timm's format contains the name.
        pretrained: Whether to load published weights. By default only those of a model that
            `attnzoo.save_pretrained` or `attnzoo.push_to_hub` wrote.
        num_classes: Number of classes; 0 for no classifier. By default that of the weights.
        in_chans: Number of input channels. Published weights with another number are adapted.
        drop_path_rate: Rate of stochastic depth; by default the model's own.
        features_only: Build a `FeatureMaps`, which returns the feature maps of the stages instead of logits.
        out_indices: Stages whose maps are returned; by default all.
        feature_cls: "dict" if `features_only` shall return the maps in a dict by index of the stage. timm's other
            values ("list", "getter", "hook" and "fx") return a list.
        output_stride: Always 32, an argument of timm's models. No model has dilated strides.
        dense: Build the model with its published settings for detection ("coco") or segmentation ("ade20k"): dilations,
            regions, shift rule, output norms. Models without such settings ignore it.
        pretrained_cfg: The published weights and their preprocessing: a tag, a `PretrainedCfg`, or a mapping of its
            fields (timm's are accepted). Missing fields are those of the model's own configuration.
        pretrained_cfg_overlay: Fields that take precedence over `pretrained_cfg`, such as `dict(file="weights.pth")`.
        checkpoint_path: Weights to load instead of published ones, as `load_weights` takes them, for example a
            checkpoint of tools/train.py. Without `num_classes`, the head gets the checkpoint's number of classes.
        cache_dir: Cache folder; by default `$ATTNZOO_HOME/checkpoints`, or that of torch.hub (for hub repositories that
            of huggingface_hub).
        use_ema: Whether to load averaged weights if a checkpoint has both kinds; by default those that the script which
            wrote it evaluates.
        **kwargs: Arguments of the model.

    Returns:
        The model in training mode. It has the attribute `pretrained_cfg`, a dict that timm's data configuration reads,
        and, if weights were loaded, `load_report`.

    Raises:
        ValueError: There is no such model, tag or argument (the message suggests similar names), an argument does not
            fit, or no weights were published for the model.
        WeightsMismatchError: The weights do not fit the model.
        DownloadError: The download failed; the message explains how to put the weights in place manually.
    """
    if pretrained and checkpoint_path:
        raise ValueError("Pass either pretrained=True or checkpoint_path=, not both.")
    if out_indices is not None and not features_only:
        raise ValueError("out_indices selects the maps that features_only=True returns; without it, it has no effect.")
    _check_feature_arguments(features_only, feature_cls, output_stride)
    kind, _ = split_source(model_name) if ":" in model_name else ("", "")
    if kind:
        if pretrained_cfg is not None:
            raise ValueError(f"A {kind!r} model has its own pretrained_cfg: change it with pretrained_cfg_overlay.")
        saved = _read_saved_model(model_name, kind, cache_dir)
        model_name, pretrained_cfg = saved.model_name, saved.pretrained_cfg
        num_classes = saved.num_classes if num_classes is None else num_classes
        kwargs = {**saved.arguments, **kwargs}
        if saved.is_own and pretrained is None:
            pretrained = not checkpoint_path
        if saved.features_only and not features_only:
            features_only, out_indices, feature_cls = True, saved.out_indices, saved.feature_cls
    name, _ = split_model_name_tag(model_name)
    cfg, state_dict = resolve_pretrained_cfg(model_name, pretrained_cfg, pretrained_cfg_overlay)
    arguments: dict[str, Any] = {"in_chans": in_chans, **kwargs}
    if drop_path_rate is not None:
        arguments["drop_path_rate"] = drop_path_rate
    if features_only:
        arguments["num_classes"] = 0
    elif num_classes is not None or cfg.num_classes >= 0:
        arguments["num_classes"] = cfg.num_classes if num_classes is None else num_classes
    if dense is not None:
        arguments |= _dense_argument(name, dense)
    _check_arguments(name, arguments)
    if pretrained:
        _check_published(cfg, state_dict)

    model: Any = model_entrypoint(name)(**arguments)
    model.pretrained_cfg = model.default_cfg = cfg.to_dict()
    if features_only:
        model = FeatureMaps(model, out_indices, feature_cls or "list")
    if pretrained:
        model.load_report = _load_published(model, cfg, state_dict, cache_dir, use_ema)
        _write_preprocessing(model, pretrained_cfg, pretrained_cfg_overlay, fresh_head=cfg.num_classes < 0)
    elif checkpoint_path:
        adopt = num_classes is None and not features_only
        model.load_report = load_weights(
            model, checkpoint_path, use_ema=use_ema, cache_dir=cache_dir, adopt_classes=adopt
        )
    return model


def resolve_pretrained_cfg(
    model_name: str,
    given: str | Mapping[str, Any] | PretrainedCfg | None = None,
    overlay: Mapping[str, Any] | None = None,
) -> tuple[PretrainedCfg, Mapping[str, Any] | None]:
    """Resolves which published weights are meant, and their preprocessing.

    Args:
        model_name: "name" or "name.tag".
        given: A tag, a configuration, or fields of one; it takes precedence over the tag in the name.
        overlay: Fields that take precedence over all others.

    Returns:
        The configuration, and the weights in memory if timm's field "state_dict" contains some.

    Raises:
        ValueError: There is no such model, tag or field.
    """
    name, _ = split_model_name_tag(model_name)
    base = get_pretrained_cfg(model_name)
    fields: dict[str, Any] = {}
    if isinstance(given, str):
        base = get_pretrained_cfg(f"{name}.{given}")
    elif isinstance(given, PretrainedCfg):
        base = dataclasses.replace(given, architecture=name)
    elif isinstance(given, Mapping):
        if given.get("tag") in get_tags(name):
            base = get_pretrained_cfg(f"{name}.{given['tag']}")
        fields = dict(given)
        if any(fields.get(source) for source in (*_WEIGHT_SOURCES, "state_dict")):
            # Given weights replace the published ones, whose checksum belongs to their URL.
            same_url = fields.get("url") == base.url
            none = dict.fromkeys((*_WEIGHT_SOURCES, "hf_hub_filename"))
            base = dataclasses.replace(base, **none, sha256=base.sha256 if same_url else None)
    elif given is not None:
        raise ValueError(
            f"pretrained_cfg must be a tag, a PretrainedCfg or a mapping of its fields, got {type(given).__name__}."
        )
    overlay = overlay or {}
    if "url" in overlay and overlay["url"] != fields.get("url", base.url):
        fields["sha256"] = None  # it belongs to the other URL
    fields |= overlay
    state_dict = fields.pop("state_dict", None)
    for key in fields:
        if key not in _FIELDS | _TIMM_FIELDS:
            raise ValueError(unknown_name("field of a pretrained_cfg", key, _FIELDS, max_listed=0))
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items() if key in _FIELDS
    }
    return dataclasses.replace(base, **{**fields, "architecture": name}), state_dict


def _dense_argument(name: str, dense: str) -> dict[str, Any]:
    """Returns the argument `dense` for a model that has such settings; for others, nothing."""
    if dense not in _DENSE:
        raise ValueError(unknown_name(f"dense setting of {name}", dense, _DENSE))
    allowed = model_arguments(name)
    return {"dense": dense} if allowed is None or "dense" in allowed else {}


def _check_feature_arguments(features_only: bool, feature_cls: str | None, output_stride: int) -> None:
    """Raises a ValueError for arguments of timm's feature extraction that cannot be honored."""
    if feature_cls is not None:
        check_choice("feature_cls", feature_cls, FEATURE_CLASSES)
        if not features_only:
            raise ValueError("feature_cls selects what features_only=True returns; without it, it has no effect.")
    if output_stride != 32:
        raise ValueError(
            f"output_stride must be 32, got {output_stride!r}: strides cannot be replaced by dilations. For maps of "
            "smaller strides only, select them with features_only=True and out_indices."
        )


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    allowed = model_arguments(name)
    if allowed is None:
        return
    for argument in arguments:
        if argument not in allowed:
            general = [name for name in inspect.signature(create_model).parameters if name != "kwargs"]
            raise ValueError(unknown_name(f"argument of {name}", argument, {*allowed, *general}, max_listed=60))


def _check_published(cfg: PretrainedCfg, state_dict: Mapping[str, Any] | None) -> None:
    """Raises a ValueError that lists related published weights, unless there are some for a configuration."""
    if cfg.has_weights or state_dict is not None:
        return
    assert cfg.architecture is not None
    own = list_models(f"{cfg.architecture}.*", pretrained=True)
    family = next(family for family in list_families() if cfg.architecture in list_models(family=family))
    available = own or list_models(pretrained=True, family=family)
    message = f"No weights are published for {cfg.architecture!r}" + (f" under the tag {cfg.tag!r}." if own else ".")
    if available:
        message += f" Available: {', '.join(available[:8])}{', ...' if len(available) > 8 else ''}."
    raise ValueError(f"{message} Build it with pretrained=False, or load your own with checkpoint_path=.")


def _load_published(
    model: nn.Module,
    cfg: PretrainedCfg,
    state_dict: Mapping[str, Any] | None,
    cache_dir: str | os.PathLike[str] | None,
    use_ema: bool | None,
) -> LoadReport:
    """Loads a configuration's weights from the first of its sources that can be reached."""
    fresh_head = cfg.num_classes < 0  # how timm's scripts request it

    def load(source: str | Mapping[str, Any], **options: Any) -> LoadReport:
        return load_weights(model, source, use_ema=use_ema, cache_dir=cache_dir, fresh_head=fresh_head, **options)

    if state_dict is not None:
        return load(state_dict)
    if cfg.file:
        return load(os.fspath(cfg.file))
    if not cfg.verified:
        _logger.warning(
            "The URL of %s.%s's weights (%s) was published by the authors; %s.",
            cfg.architecture,
            cfg.tag,
            cfg.url or f"hf-hub:{cfg.hf_hub_id}",
            "users report that it no longer works" if cfg.broken else "it has not been tested",
        )
    failed: DownloadError | None = None
    if cfg.url:
        try:
            return load(cfg.url, sha256=cfg.sha256)
        except DownloadError as error:
            if not cfg.hf_hub_id:
                raise
            _logger.warning("%s\nTrying the copy on the Hugging Face hub, %s.", error, cfg.hf_hub_id)
            failed = error
    try:
        return load(f"hf-hub:{cfg.hf_hub_id}", filename=cfg.hf_hub_filename)
    except DownloadError as error:
        raise (DownloadError(f"{failed}\n\n{error}") if failed is not None else error) from failed


def _write_preprocessing(model: Any, given: Any, overlay: Mapping[str, Any] | None, fresh_head: bool) -> None:
    """Updates a model's `pretrained_cfg` with what its weights carry, and with given fields, which take precedence."""
    carried = model.load_report.preprocessing
    fields = {} if carried is None else carried.to_dict()
    for known in (given, overlay):
        if isinstance(known, Mapping):
            fields |= {name: value for name, value in known.items() if value is not None}
    if fresh_head:
        fields.pop("label_names", None)
    Preprocessing.from_pretrained_cfg(fields).write_to(model)


@dataclasses.dataclass(frozen=True)
class _SavedModel:
    """A model in a hub repository or folder, as its config.json describes it.

    Attributes:
        model_name: Name of the model.
        pretrained_cfg: Fields of its configuration, with the class names.
        arguments: Arguments that it was built with, except for those below.
        num_classes: Number of classes; None if the file does not contain it.
        features_only: Whether it is a `FeatureMaps`.
        out_indices: Stages whose maps it returns.
        feature_cls: "dict" if it returns them in a dict.
        is_own: Whether attnzoo wrote the file.
    """

    model_name: str
    pretrained_cfg: dict[str, Any]
    arguments: dict[str, Any]
    num_classes: int | None
    features_only: bool
    out_indices: list[int] | None
    feature_cls: Any
    is_own: bool


def _read_saved_model(source: str, kind: str, cache_dir: str | os.PathLike[str] | None) -> _SavedModel:
    """Reads the config.json of a hub repository or folder."""
    if kind not in ("hf-hub", "local-dir"):
        raise ValueError(f"{source!r} is not a model: pass files and URLs of weights as checkpoint_path=.")
    config = read_model_config(source, cache_dir)
    name = config["architecture"]
    if not is_model(name):  # timm saved it under our models' prefix in timm's registry
        suffixes = (name[index + 1 :] for index, character in enumerate(name) if character == "_")
        name = next(filter(is_model, suffixes), name)
    own = config.get("attnzoo")
    fields = dict(config.get("pretrained_cfg") or {})
    arguments = dict(config.get("model_args") or {})
    num_classes = arguments.pop("num_classes", None)
    if isinstance(config.get("num_classes"), int):
        fields["num_classes"] = config["num_classes"]
        num_classes = config["num_classes"] if num_classes is None else num_classes
    # The first version of the format had features_only and out_indices in the entry of attnzoo.
    maps = {**(own if isinstance(own, Mapping) else {}), **arguments}
    for argument in ("features_only", "out_indices", "feature_cls"):
        arguments.pop(argument, None)
    fields |= saved_preprocessing(config).to_dict()
    fields |= maps.get("pretrained_cfg") or {}
    location = source.partition(":")[2]
    fields |= {"file": location} if kind == "local-dir" else {"hf_hub_id": location, "file": None, "url": None}
    return _SavedModel(
        name,
        {key: value for key, value in fields.items() if key in _FIELDS | _TIMM_FIELDS},
        arguments,
        num_classes,
        bool(maps.get("features_only")),
        maps.get("out_indices"),
        maps.get("feature_cls"),
        isinstance(own, Mapping),
    )
