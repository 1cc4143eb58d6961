"""From a model's name, a config or a work dir to what a predictor needs: a task, its transform, its classes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mmengine.config import Config
from torch import nn

from ...backbones.registry import get_pretrained_cfg, list_models
from ...names import nearest_names
from ..config.checking import check_config
from ..config.loading import SUFFIXES, list_configs, load_config
from ..config.parts import backbone_of, is_headed
from ..factory import create_model
from ..plots.colors import Color
from ..registry import MODELS, TRANSFORMS
from ..tasks.base import is_task
from ..tasks.classification import Classifier
from ..tasks.preprocessing import ImagePreprocessor
from ..weights import LoadReport, load_weights
from ..weights.tasks import weights_target
from ..work_dir import CONFIG, find_best
from .class_names import config_classes, published_classes, spoken, work_dir_classes

Kind = Literal["classification", "detection", "segmentation"]
Weights = str | os.PathLike[str] | Mapping[str, Any] | bool | None


@dataclass
class Built:
    """What a predictor needs.

    Attributes:
        task: with `test_step`, as the evaluation uses it.
        kind: what the task predicts.
        transform: the evaluation's.
        name: of the model, for messages and reports.
        weights: where the weights came from, in words.
        classes: names by label; empty where they are not known.
        palette: colours by label, where the data set has its own.
    """

    task: Any
    kind: Kind
    transform: Callable[..., Any]
    name: str
    weights: str
    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] | None = None


def build(
    model: str | os.PathLike[str] | Config | Mapping[str, Any] | nn.Module,
    weights: Weights = None,
    transform: dict[str, Any] | Callable[..., Any] | None = None,
    use_ema: bool | None = None,
    cfg_options: Mapping[str, Any] | Sequence[str] | None = None,
) -> Built:
    """Builds what a predictor was asked for.

    Args:
        model: see `Predictor`.
        weights: see `Predictor`.
        transform: see `Predictor`.
        use_ema: see `Predictor`.
        cfg_options: see `Predictor`.

    Raises:
        ValueError: there is no such model or config, or its parts do not fit.
        OSError: weights cannot be read or fetched.
    """
    if isinstance(weights, (str, os.PathLike)) and (Path(weights).expanduser() / CONFIG).is_file():
        weights = find_best(Path(weights).expanduser())
    own = TRANSFORMS.build(transform) if isinstance(transform, dict) else transform
    if isinstance(model, nn.Module):
        return _from_module(model, weights, own, use_ema)
    if isinstance(model, (Config, Mapping)):
        cfg = copy.deepcopy(model) if isinstance(model, Config) else Config(copy.deepcopy(dict(model)))
        return _from_config(cfg, _config_title(cfg), None, weights, own, use_ema)
    if not isinstance(model, (str, os.PathLike)):
        raise ValueError(
            "A predictor is built from a model's name, a config, a work dir or a torch module, not from a "
            f"{type(model).__name__}."
        )
    given = os.fspath(model)
    path = Path(given).expanduser()
    if given.startswith(("hf-hub:", "hf_hub:", "local-dir:")) or (not path.is_file() and MODELS.is_backbone(given)):
        if cfg_options:
            raise ValueError(f"cfg_options change a config; {given!r} is a model.")
        return _from_name(given, weights, own, use_ema)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            other = f" Is 'local-dir:{given}' meant?" if (path / "config.json").is_file() else ""
            raise ValueError(f"{given} is no work dir: it has no {CONFIG}, which a training leaves there.{other}")
        cfg = load_config(path / CONFIG, cfg_options)
        return _from_config(cfg, given, path, find_best(path) if weights is None else weights, own, use_ema)
    if not path.is_file() and path.suffix not in SUFFIXES and "/" not in given:
        shipped = [name.rpartition("/")[2] for name in list_configs()]
        if given not in shipped:
            models = list_models()
            near = nearest_names(given, [*models, *shipped])
            hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
            raise ValueError(f"There is no model, config or work dir {given!r}.{hint}")
    return _from_config(load_config(given, cfg_options), given, None, weights, own, use_ema)


def _from_name(given: str, weights: Weights, transform: Any, use_ema: bool | None) -> Built:
    """A classifier by its name, images prepared as its weights want it."""
    if weights is None or weights is True:
        model = create_model(given, pretrained=True, use_ema=use_ema)
    elif isinstance(weights, Mapping):
        model = create_model(given, pretrained=False)
        load_weights(model, weights, use_ema=use_ema, adopt_classes=True)
    elif weights is False:
        model = create_model(given, pretrained=False)
    else:
        model = create_model(given, checkpoint_path=os.fspath(weights), use_ema=use_ema)
    published = weights is None or weights is True
    built = _classifier(model, transform, given)
    built.weights = "published" if published else _said(weights)
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", {})
    tag = str(cfg.get("tag") or "")
    if not built.classes:
        built.classes = published_classes(built.task.num_classes, published and ("in1k" in tag or "in2" in tag))
    return built


def _from_module(model: nn.Module, weights: Weights, transform: Any, use_ema: bool | None) -> Built:
    """A task or a classifier that is built already."""
    if weights is True:
        raise ValueError("weights=True takes published weights by a model's name; a module comes with its own.")
    if is_task(model):
        if transform is None:
            raise ValueError(f"A {type(model).__name__} needs a transform, such as dict(type='Evaluation', size=224).")
        built = Built(model, _kind_of(model), transform, type(model).__name__, "in memory")
        target: nn.Module = weights_target(model)
    else:
        built = _classifier(model, transform, type(model).__name__)
        target = model
    if weights is not None and weights is not False:
        load_weights(target, weights, use_ema=use_ema)
        built.weights = _said(weights)
    return built


def _classifier(model: Any, transform: Any, name: str) -> Built:
    """Puts a backbone that gives logits into a task."""
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not cfg and transform is None:
        raise ValueError(
            f"A {type(model).__name__} needs a transform, such as dict(type='Evaluation', size=224), because it has no "
            "pretrained_cfg that says how images are prepared."
        )
    preprocessor: nn.Module = (
        ImagePreprocessor(cfg["mean"], cfg["std"]) if cfg else _FloatsAsTheyAre(type(model).__name__)
    )
    if getattr(model, "num_classes", 0) < 1:
        if cfg:
            raise ValueError(f"{name} has no classifier: num_classes is 0.")
        task = Classifier(_WithoutCount(model), data_preprocessor=preprocessor)
        task.num_classes = 0
    else:
        task = Classifier(model, data_preprocessor=preprocessor)
    built = Built(task, "classification", transform or evaluation_transform(cfg), name, "in memory")
    # What `save_pretrained` was given stays with the model.
    built.classes = _matching(spoken(tuple(cfg.get("label_names") or ())), task.num_classes)
    return built


def evaluation_transform(cfg: Mapping[str, Any]) -> Callable[..., Any]:
    """Builds the transform with which a model's accuracy was published.

    Args:
        cfg: its `pretrained_cfg`. Where weights were published as better at a larger size, it is that size.
    """
    larger = None if cfg.get("fixed_input_size") else cfg.get("test_input_size")
    size = larger or cfg["input_size"]
    crop = (cfg.get("test_crop_pct") if larger else None) or cfg["crop_pct"]
    options = {
        "size": (int(size[1]), int(size[2])),
        "crop_pct": crop,
        "crop_mode": cfg.get("crop_mode", "center"),
        "interpolation": cfg["interpolation"],
        "mean": cfg["mean"],
    }
    return TRANSFORMS.build({"type": "Evaluation", **options})


def _from_config(
    cfg: Config, title: str, work_dir: Path | None, weights: Weights, transform: Any, use_ema: bool | None
) -> Built:
    """A config's model, and the transform of its test data."""
    if not isinstance(cfg.get("model"), Mapping) or "type" not in cfg.model:
        raise ValueError(f"{title} has no `model` with a type: it is no config that can predict.")
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    dataset = (loader.get("dataset") or {}) if isinstance(loader, Mapping) else {}
    if transform is None:
        if not dataset.get("transform"):
            raise ValueError(
                f"{title} has no test_dataloader with a transform: give transform=, such as dict(type='Evaluation', "
                "size=224)."
            )
        transform = TRANSFORMS.build(dict(dataset["transform"]))
    backbone = backbone_of(cfg.to_dict())
    if weights is None:
        raise ValueError(
            f"{title} is a config, which holds no weights: give weights=, a checkpoint (path, address, "
            "hf-hub:owner/name), True for published ones or False for none, or the work dir of a training as the model."
        )
    if weights is True and is_headed(cfg.to_dict()):
        raise ValueError(f"{title} has heads beside its backbone: name the checkpoint of the whole as weights=.")
    if backbone is not None:
        part = cfg.model if backbone[0] == "model" else cfg.model.backbone
        part.update(pretrained=False, checkpoint_path=None)
        if weights is True:
            part.pretrained = True
    check_config(Config({"model": cfg.model}), paths=False)
    task: Any = MODELS.build(cfg.model)
    if not is_task(task):
        built = _classifier(task, transform, title)
        task = built.task
    if weights is True:
        _check_head(task.backbone.load_report, task, title)
    elif weights is not False:
        _check_head(load_weights(weights_target(task), weights, use_ema=use_ema), task, title)
    names, palette = config_classes(dataset, task.num_classes)
    names = names or _matching(work_dir_classes(work_dir), task.num_classes) if work_dir else names
    if not names and isinstance(weights, (str, os.PathLike)):
        names = _matching(work_dir_classes(Path(weights).expanduser().parent), task.num_classes)
    if not names and weights is True and backbone is not None:
        names = published_classes(task.num_classes, "in1k" in str(get_pretrained_cfg(backbone[1]["type"]).tag))
    return Built(task, _kind_of(task), transform, title, _said(weights), names, palette)


def _matching(names: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    return names if len(names) == num_classes else ()


def _check_head(report: LoadReport, task: Any, title: str) -> None:
    """Raises where the head kept its initial values, with which predictions mean nothing."""
    if report.head_classes is not None:
        theirs, ours = report.head_classes
        raise ValueError(
            f"The weights' head has {theirs} outputs, that of {title} {ours}, so they tell other classes apart: with "
            "an untrained head there is nothing to predict. With cfg_options=, set "
            f"{task.classes_key}."
        )


def _kind_of(task: Any) -> Kind:
    kind: Any = getattr(task, "kind", None)
    if kind not in get_args(Kind):
        raise ValueError(
            f"A predictor needs a task whose `kind` is one of {', '.join(get_args(Kind))}, but "
            f"{type(task).__name__}.kind is {kind!r}."
        )
    return kind


def _config_title(cfg: Config) -> str:
    return str(cfg.filename) if getattr(cfg, "filename", None) else "The config"


def _said(weights: Weights) -> str:
    if isinstance(weights, Mapping):
        return "a state dict in memory"
    if isinstance(weights, bool) or weights is None:
        return "published" if weights else "none: as initialised"
    return os.fspath(weights)


class _FloatsAsTheyAre(ImagePreprocessor):
    """Moves images to the device and takes them as the user's transform has left them."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch; raises a ValueError for pixels that nobody has normalised."""
        if not data["image"].is_floating_point():
            raise ValueError(
                f"The transform gives {data['image'].dtype}, and {self.owner} has no pretrained_cfg with a mean and "
                "std: let the transform give normalised floats."
            )
        return {**data, "image": data["image"].to(self.device)}


class _WithoutCount(nn.Module):
    """A classifier that does not tell how many classes it has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.num_classes = 1  # `Classifier` asks; predictions count for themselves

    def forward(self, image: Any) -> Any:
        """Gives the model's logits."""
        return self.model(image)
