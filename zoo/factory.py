"""`create_model`: from a model's name to the model, with its published weights if wanted."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from ..backbones.common.features import FeatureMaps
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
from .weights import DownloadError, LoadReport, load_weights
from .weights.sources import read_model_config, split_source

_logger = logging.getLogger(__name__)

_DENSE = ("coco", "ade20k")
_SOURCES = ("file", "url", "hf_hub_id")
_FIELDS = {field.name for field in dataclasses.fields(PretrainedCfg)}
# Fields of timm's configurations that say nothing here; "state_dict" does, and is taken out before.
_TIMM_FIELDS = {
    "source", "custom_load", "min_input_size", "test_pool_size", "label_offset", "label_names", "label_descriptions",
    "description", "paper_name", "paper_ids", "notes",
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
        model_name: as `list_models()` names it, with or without the tag of a checkpoint ("nat_mini", "nat_mini.in1k");
            or `hf-hub:owner/name` or `local-dir:folder`, where a `config.json` in timm's form names the model.
        pretrained: whether to load the published weights. By default only those of a model that
            `attnzoo.save_pretrained` or `attnzoo.push_to_hub` wrote.
        num_classes: of the classifier; 0 for none. By default as many as the weights have.
        in_chans: channels of the images. Published weights are adapted where they were trained with others.
        drop_path_rate: of stochastic depth; by default the model's own.
        features_only: build a `FeatureMaps`: the maps of the stages instead of logits.
        out_indices: which stages then; by default all.
        dense: build the model with the settings that it was published with for detection ("coco") or segmentation
            ("ade20k"): dilations, regions, shifting rule, norms of the outputs. A model without such settings is the
            same with and without.
        pretrained_cfg: which published weights, and how images are prepared for them: a tag, a `PretrainedCfg`, or
            a mapping of its fields (timm's are understood), whose missing fields are those of the model's own.
        pretrained_cfg_overlay: fields that go before those of `pretrained_cfg`, such as `dict(file="weights.pth")`.
        checkpoint_path: weights to load instead of published ones, from wherever `load_weights` takes them, such as a
            checkpoint of tools/train.py. Without `num_classes` the model gets the number of classes that they have.
        cache_dir: where downloads are kept: by default in `$ATTNZOO_HOME`, or where torch.hub (huggingface_hub for its
            own) keeps them.
        use_ema: whether to take averaged weights where a checkpoint holds both; by default what the script that wrote
            it evaluates.
        **kwargs: the model's own arguments.

    Returns:
        The model, in training mode. It carries `pretrained_cfg` (a dict that timm's data configuration reads), and
        where weights were loaded `load_report`.

    Raises:
        ValueError: there is no such model, tag or argument (the message names the nearest), an argument does not fit,
            or weights are wanted of a model for which none were published.
        WeightsMismatchError: the weights do not fit the model.
        DownloadError: the weights could not be fetched; the message says how to put them in place by hand.
    """
    names: list[str] | None = None
    if pretrained and checkpoint_path:
        raise ValueError("Either pretrained=True or checkpoint_path=, not both: the second would replace the first.")
    if out_indices is not None and not features_only:
        raise ValueError("out_indices chooses the maps that features_only=True returns; without it, it means nothing.")
    kind, _ = split_source(model_name) if ":" in model_name else ("", "")
    if kind:
        model_name, described, arguments, own = _from_config(model_name, kind, cache_dir)
        if pretrained_cfg is not None:
            raise ValueError(f"pretrained_cfg cannot be given beside the one of a {kind!r} model; overlay it.")
        pretrained_cfg = described
        num_classes = arguments.pop("num_classes", None) if num_classes is None else num_classes
        kwargs = {**arguments, **kwargs}
        names = described.pop("label_names", None)
        if own is not None:
            pretrained = not checkpoint_path if pretrained is None else pretrained
            if own.get("features_only") and not features_only:
                features_only, out_indices = True, own.get("out_indices")
    name, _ = split_model_name_tag(model_name)
    cfg, state_dict = resolve_pretrained_cfg(model_name, pretrained_cfg, pretrained_cfg_overlay)

    arguments = {"in_chans": in_chans, **kwargs}
    if drop_path_rate is not None:
        arguments["drop_path_rate"] = drop_path_rate
    classes = 0 if features_only else num_classes
    if classes is None and cfg.num_classes >= 0:
        classes = cfg.num_classes
    if classes is not None:
        arguments["num_classes"] = classes
    if dense is not None:
        if dense not in _DENSE:
            raise ValueError(unknown_name(f"dense setting of {name}", dense, _DENSE))
        allowed = model_arguments(name)
        if allowed is None or "dense" in allowed:
            arguments["dense"] = dense
    _check_arguments(name, arguments)
    if pretrained:
        _check_published(cfg, state_dict)

    model = model_entrypoint(name)(**arguments)
    model.pretrained_cfg = model.default_cfg = cfg.to_dict()
    if features_only:
        model: Any = FeatureMaps(model, out_indices)
    report: LoadReport | None = None
    if pretrained:
        report = _load_published(model, cfg, state_dict, cache_dir, use_ema)
        if names and getattr(model, "num_classes", None) == len(names):
            model.pretrained_cfg["label_names"] = tuple(names)
    elif checkpoint_path:
        adopt = num_classes is None and not features_only
        report = load_weights(model, checkpoint_path, use_ema=use_ema, cache_dir=cache_dir, adopt_classes=adopt)
    if report is not None:
        model.load_report = report
    return model


def resolve_pretrained_cfg(
    model_name: str,
    given: str | Mapping[str, Any] | PretrainedCfg | None = None,
    overlay: Mapping[str, Any] | None = None,
) -> tuple[PretrainedCfg, Mapping[str, Any] | None]:
    """Finds which published weights are meant, and how images are prepared for them.

    Args:
        model_name: "name" or "name.tag".
        given: a tag, a configuration, or fields of one; it goes before the name's tag.
        overlay: fields that go before all others.

    Returns:
        The configuration; and weights in memory, where timm's field "state_dict" gave some.

    Raises:
        ValueError: there is no such model, tag or field.
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
        if any(fields.get(source) for source in (*_SOURCES, "state_dict")):
            same = fields.get("url") == base.url
            none = dict.fromkeys(("file", "url", "hf_hub_id", "hf_hub_filename"))
            base = dataclasses.replace(base, **none, sha256=base.sha256 if same else None)
    elif given is not None:
        raise ValueError(
            f"pretrained_cfg is a tag, a PretrainedCfg or a mapping of fields, not a {type(given).__name__}."
        )
    overlay = overlay or {}
    if "url" in overlay and overlay["url"] != fields.get("url", base.url):
        fields["sha256"] = None  # it was that of another file
    fields |= overlay
    state_dict = fields.pop("state_dict", None)
    for key in fields:
        if key not in _FIELDS | _TIMM_FIELDS:
            raise ValueError(unknown_name("field of a pretrained_cfg", key, _FIELDS, most=0))
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items() if key in _FIELDS
    }
    return dataclasses.replace(base, **{**fields, "architecture": name}), state_dict


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    allowed = model_arguments(name)
    if allowed is None:
        return
    for argument in arguments:
        if argument not in allowed:
            general = [name for name in inspect.signature(create_model).parameters if name != "kwargs"]
            raise ValueError(unknown_name(f"argument of {name}", argument, {*allowed, *general}, most=60))


def _check_published(cfg: PretrainedCfg, state_dict: Mapping[str, Any] | None) -> None:
    if cfg.has_weights or state_dict is not None:
        return
    assert cfg.architecture is not None
    own = list_models(f"{cfg.architecture}.*", pretrained=True)
    family = next(family for family in list_families() if cfg.architecture in list_models(family=family))
    others = list_models(pretrained=True, family=family)
    message = f"No weights are published for {cfg.architecture!r}"
    message += f" under the tag {cfg.tag!r}." if own else "."
    there = own or others
    if there:
        message += f" There are: {', '.join(there[:8])}{', ...' if len(there) > 8 else ''}."
    raise ValueError(f"{message} Build it with pretrained=False, or load your own with checkpoint_path=.")


def _load_published(
    model: nn.Module,
    cfg: PretrainedCfg,
    state_dict: Mapping[str, Any] | None,
    cache_dir: str | os.PathLike[str] | None,
    use_ema: bool | None,
) -> LoadReport:
    """Loads a configuration's weights from the first of its sources that can be reached."""
    fresh_head = cfg.num_classes < 0  # how timm's scripts ask for it

    def load(source: str | Mapping[str, Any], **where: Any) -> LoadReport:
        return load_weights(model, source, use_ema=use_ema, cache_dir=cache_dir, fresh_head=fresh_head, **where)

    if state_dict is not None:
        return load(state_dict)
    if cfg.file:
        return load(os.fspath(cfg.file))
    if not cfg.verified:
        _logger.warning(
            "The address of %s.%s's weights (%s) is the one that its authors give; %s.",
            cfg.architecture,
            cfg.tag,
            cfg.url or f"hf-hub:{cfg.hf_hub_id}",
            "users report that it does not work any more" if cfg.broken else "it has not been tried here",
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


def _from_config(
    source: str, kind: str, cache_dir: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any], dict[str, Any], Mapping[str, Any] | None]:
    """Reads a model in a hub repository or folder.

    Returns:
        Its name, its configuration (with "label_names" where the classes have names), its arguments, and what only this
        project's files say; None where it wrote none of them.
    """
    if kind not in ("hf-hub", "local-dir"):
        raise ValueError(f"{source!r} names no model; files and addresses of weights go into checkpoint_path=.")
    config = read_model_config(source, cache_dir)
    name = config["architecture"]
    if not is_model(name):  # saved from timm, where our models have a prefix
        name = next((name[at + 1 :] for at, sign in enumerate(name) if sign == "_" and is_model(name[at + 1 :])), name)
    described = dict(config.get("pretrained_cfg") or {})
    location = source.partition(":")[2]
    described |= {"file": location} if kind == "local-dir" else {"hf_hub_id": location, "file": None, "url": None}
    arguments = dict(config.get("model_args") or {})
    if isinstance(config.get("num_classes"), int):
        described["num_classes"] = config["num_classes"]
        arguments.setdefault("num_classes", config["num_classes"])
    names = config.get("label_names") or described.get("label_names")
    described = {key: value for key, value in described.items() if key in _FIELDS | _TIMM_FIELDS}
    described["label_names"] = [str(one) for one in names] if isinstance(names, list) else None
    own = config.get("attnzoo")
    return name, described, arguments, own if isinstance(own, Mapping) else None
