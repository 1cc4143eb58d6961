"""Tests that the recipes of detection and segmentation match the published ones."""

from __future__ import annotations

import ast
import functools
from typing import Any, NamedTuple

import pytest
import torch

from attnzoo.zoo.config import load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import parameter_groups
from support.recipes import Recipe, dense_recipes, representatives

RECIPES = {one.name: one for one in dense_recipes()}


class Row(NamedTuple):
    """Published results of a training run: metrics, as printed, and drop path rate.

    Attributes:
        metrics: Box and mask AP; box AP; or mIoU at a single scale and at multiple scales.
        drop_path: Drop path rate of the last block.
    """

    metrics: tuple[str | None, ...]
    drop_path: float


def detectors(family: str, schedule: str, head: str, rows: dict[str, tuple[str, float]]) -> dict[str, Row]:
    """Builds the rows of a COCO table from `{model: ("box mask" or "box", drop path)}`."""
    return {
        f"{family}/{model}_{head}_{schedule}_coco": Row(tuple(text.split()), rate)
        for model, (text, rate) in rows.items()
    }


def segmentors(family: str, schedule: str, head: str, rows: dict[str, tuple[str, float]]) -> dict[str, Row]:
    """Builds the rows of an ADE20K table from `{model-suffix: ("single multiple", drop path)}`; "-" means no value."""
    found = {}
    for model, (text, rate) in rows.items():
        model, _, rest = model.partition("-")
        metrics = tuple(None if value == "-" else value for value in text.split())
        found[f"{family}/{model}_{head}_{schedule}_ade20k{'-' * bool(rest)}{rest}"] = Row(metrics, rate)
    return found


NAT = {
    **detectors(
        "nat",
        "3x",
        "mask-rcnn",
        {
            "nat_mini": ("46.5 41.7", 0.2),
            "nat_tiny": ("47.7 42.6", 0.2),
            "nat_small": ("48.4 43.2", 0.35),
            "dinat_mini": ("47.2 42.5", 0.2),
            "dinat_tiny": ("48.6 43.5", 0.2),
            "dinat_small": ("49.3 44.0", 0.35),
            "dinat_s_tiny": ("46.6 42.1", 0.2),
            "dinat_s_small": ("48.6 43.5", 0.35),
        },
    ),
    **detectors(
        "nat",
        "3x",
        "cascade-mask-rcnn",
        {
            "nat_mini": ("50.3 43.6", 0.2),
            "nat_tiny": ("51.4 44.5", 0.3),
            "nat_small": ("52.0 44.9", 0.3),
            "nat_base": ("52.3 45.1", 0.5),
            "dinat_mini": ("51.2 44.4", 0.2),
            "dinat_tiny": ("52.2 45.1", 0.3),
            "dinat_small": ("52.9 45.8", 0.5),
            "dinat_base": ("53.4 46.2", 0.6),
            "dinat_large": ("55.3 47.8", 0.6),
            "dinat_s_tiny": ("51.0 44.1", 0.3),
            "dinat_s_small": ("52.3 45.2", 0.5),
            "dinat_s_base": ("52.6 45.3", 0.6),
            "dinat_s_large": ("54.8 47.2", 0.6),
        },
    ),
    **segmentors(
        "nat",
        "160k",
        "upernet",
        {
            "nat_mini": ("45.1 46.4", 0.2),
            "nat_tiny": ("47.1 48.4", 0.3),
            "nat_small": ("48.0 49.5", 0.5),
            "nat_base": ("48.5 49.7", 0.5),
            "dinat_mini": ("45.8 47.2", 0.2),
            "dinat_tiny": ("47.8 48.8", 0.3),
            "dinat_small": ("48.9 49.9", 0.5),
            "dinat_base": ("49.6 50.4", 0.5),
            "dinat_large-640": ("54.0 54.9", 0.3),
            "dinat_s_tiny": ("46.0 47.4", 0.3),
            "dinat_s_small": ("48.6 49.9", 0.3),
            "dinat_s_base": ("49.4 50.2", 0.3),
            "dinat_s_large-640": ("53.4 54.6", 0.3),
        },
    ),
}
BIFORMER = {
    **detectors(
        "biformer", "1x", "mask-rcnn", {"biformer_small": ("47.8 43.2", 0.2), "biformer_base": ("48.6 43.7", 0.3)}
    ),
    **detectors("biformer", "1x", "retinanet", {"biformer_small": ("45.9", 0.2), "biformer_base": ("47.1", 0.3)}),
    **segmentors(
        "biformer", "80k", "semantic-fpn", {"biformer_small": ("48.9 -", 0.15), "biformer_base": ("49.9 -", 0.3)}
    ),
    **segmentors(
        "biformer", "160k", "upernet", {"biformer_small": ("49.8 50.8", 0.3), "biformer_base": ("51.0 51.7", 0.4)}
    ),
}
VAN = {
    **segmentors(
        "van",
        "40k",
        "semantic-fpn",
        {
            "van_b0": ("38.5 -", 0.2),
            "van_b1": ("42.9 -", 0.2),
            "van_b2": ("46.7 -", 0.2),
            "van_b3": ("48.1 -", 0.3),
        },
    ),
    **segmentors(
        "van",
        "160k",
        "upernet",
        {
            "van_b0": ("- 41.1", 0.1),
            "van_b1": ("- 44.9", 0.1),
            "van_b2": ("- 50.1", 0.1),
            "van_b3": ("- 50.6", 0.3),
            "van_b4": ("- 52.2", 0.4),
            "van_b4-in22k": ("- 53.5", 0.4),
            "van_b5": ("- 53.9", 0.4),
            "van_b6": ("- 54.7", 0.5),
        },
    ),
}
# Drop path rates are published only for DaViT-T; the other recipes document their choice.
DAVIT = {
    **detectors(
        "davit",
        "1x",
        "mask-rcnn",
        {"davit_tiny": ("45.0 41.1", 0.1), "davit_small": ("47.7 42.9", 0.2), "davit_base": ("48.2 43.3", 0.4)},
    ),
    **detectors(
        "davit",
        "3x",
        "mask-rcnn",
        {"davit_tiny": ("47.4 42.9", 0.2), "davit_small": ("49.5 44.3", 0.2), "davit_base": ("49.9 44.6", 0.4)},
    ),
    **detectors(
        "davit",
        "1x",
        "retinanet",
        {"davit_tiny": ("44.0", 0.1), "davit_small": ("46.0", 0.2), "davit_base": ("46.7", 0.4)},
    ),
    **detectors(
        "davit",
        "3x",
        "retinanet",
        {"davit_tiny": ("46.5", 0.2), "davit_small": ("48.2", 0.2), "davit_base": ("48.7", 0.4)},
    ),
    **segmentors(
        "davit",
        "160k",
        "upernet",
        {"davit_tiny": ("46.3 -", 0.3), "davit_small": ("48.8 -", 0.3), "davit_base": ("49.4 -", 0.4)},
    ),
}
AGENT = {
    **detectors(
        "agent",
        "1x",
        "mask-rcnn",
        {
            "agent_swin_tiny": ("44.6 40.7", 0.1),
            "agent_swin_small": ("47.2 42.7", 0.1),
            "agent_pvt_tiny": ("41.4 38.7", 0.1),
            "agent_pvt_small": ("44.5 41.2", 0.2),
            "agent_pvt_medium": ("45.9 42.0", 0.1),
            "agent_pvt_large": ("46.9 42.8", 0.2),
        },
    ),
    **detectors(
        "agent", "3x", "mask-rcnn", {"agent_swin_tiny": ("47.3 42.7", 0.1), "agent_swin_small": ("48.9 43.8", 0.1)}
    ),
    **detectors("agent", "1x", "cascade-mask-rcnn", {"agent_swin_tiny": ("49.2 42.7", 0.1)}),
    **detectors(
        "agent",
        "3x",
        "cascade-mask-rcnn",
        {
            "agent_swin_tiny": ("51.4 44.5", 0.1),
            "agent_swin_small": ("52.6 45.5", 0.1),
            "agent_swin_base": ("52.6 45.3", 0.4),
        },
    ),
    **detectors(
        "agent",
        "1x",
        "retinanet",
        {
            "agent_pvt_tiny": ("40.3", 0.1),
            "agent_pvt_small": ("44.1", 0.1),
            "agent_pvt_medium": ("45.8", 0.2),
            "agent_pvt_large": ("46.8", 0.3),
        },
    ),
    **segmentors(
        "agent",
        "40k",
        "semantic-fpn",
        {
            "agent_pvt_tiny": ("40.18 -", 0.1),
            "agent_pvt_small": ("44.18 -", 0.1),
            "agent_pvt_medium": ("44.30 -", 0.2),
            "agent_pvt_large": ("46.52 -", 0.1),
        },
    ),
    **segmentors(
        "agent",
        "160k",
        "upernet",
        {
            "agent_swin_tiny": ("46.68 -", 0.3),
            "agent_swin_small": ("48.08 -", 0.3),
            "agent_swin_base": ("48.73 -", 0.5),
        },
    ),
}
PUBLISHED = {**NAT, **BIFORMER, **VAN, **DAVIT, **AGENT}

RATES = {
    "nat/dinat_base_cascade-mask-rcnn_3x_coco": 7.5e-5,
    "nat/dinat_large_cascade-mask-rcnn_3x_coco": 7.5e-5,
    "nat/dinat_s_base_cascade-mask-rcnn_3x_coco": 7.5e-5,
    "nat/dinat_s_large_cascade-mask-rcnn_3x_coco": 5e-5,
    **{f"agent/agent_pvt_{size}_mask-rcnn_1x_coco": 2e-4 for size in ("tiny", "small", "medium", "large")},
}
"""Learning rates of detectors other than 1e-4."""
AGENT_BIASES = ("an_bias", "na_bias", "ah_bias", "aw_bias", "ha_bias", "wa_bias")


def decays_all(one: Recipe) -> bool:
    """Returns whether weight decay also applies to norms."""
    return (
        one.family == "davit"
        or one.head == "semantic-fpn"
        or "agent_pvt" in one.model
        or (one.family, one.head) == ("biformer", "retinanet")
    )


def is_multi_scale(one: Recipe) -> bool:
    """Returns whether a detector is trained with DETR's multi-scale augmentation."""
    return one.family in ("nat", "davit") or "agent_swin" in one.model


def batch_of(one: Recipe) -> int:
    """Returns the total batch size on 8 GPUs."""
    is_large = (one.head == "semantic-fpn" and one.family in ("van", "biformer")) or one.model == "van_b4"
    return 32 if is_large else 16


@functools.cache
def config(name: str) -> Any:
    return load_config(name)


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((CONFIG_ROOT / f"{name}.py").read_text())) or ""


def test_every_published_training_run_has_a_recipe():
    assert set(RECIPES) == set(PUBLISHED)
    assert {family: sum(name.startswith(f"{family}/") for name in RECIPES) for family in ("nat", "van", "agent")} == {
        "nat": 34,
        "van": 12,
        "agent": 23,
    }


@pytest.mark.parametrize("name", RECIPES)
def test_docstring_has_the_published_metrics(name: str):
    one, (metrics, _) = RECIPES[name], PUBLISHED[name]
    if one.head == "retinanet":
        expected = f"{metrics[0]} box AP on val2017, single scale 1333x800."
    elif one.is_detector:
        expected = f"{metrics[0]} box AP, {metrics[1]} mask AP on val2017, single scale 1333x800."
    elif metrics[0] is None:
        expected = f"{metrics[1]} mIoU on the validation set with multiple scales and flips; nothing at a single scale."
    elif metrics[1] is None:
        expected = f"{metrics[0]} mIoU on the validation set at a single scale."
    else:
        multiple = f"{metrics[1]} with multiple scales and flips"
        expected = f"{metrics[0]} mIoU on the validation set at a single scale, {multiple}."
    text = " ".join(docstring(name).split())
    assert f"Published: {expected}" in text
    assert "Measured here: not yet." in text
    assert ("did not publish the drop path rate of this size" in text) == (
        one.family == "davit" and one.model != "davit_tiny"
    )


@pytest.mark.parametrize("name", RECIPES)
def test_backbone_matches_the_published_one(name: str):
    one, backbone = RECIPES[name], config(name).model.backbone
    from_22k = one.model in ("dinat_large", "dinat_s_large", "van_b5", "van_b6") or one.data == "ade20k-in22k"
    assert backbone.type == one.model + ".in22k" * from_22k
    assert backbone.features_only
    assert backbone.get("dense") == (None if one.family == "van" else "coco" if one.is_detector else "ade20k")
    assert backbone.get("norm_eps") == (1e-5 if one.family == "van" else None)
    assert backbone.drop_path_rate == PUBLISHED[name].drop_path
    # There is no known URL of VAN-B4's ImageNet-1K weights.
    assert backbone.pretrained == (name != "van/van_b4_upernet_160k_ade20k")


@pytest.mark.parametrize("name", RECIPES)
def test_optimizer_and_schedule_match_the_published_ones(name: str):
    one, cfg = RECIPES[name], config(name)
    wrapper, schedule = cfg.optim_wrapper, cfg.param_scheduler
    uses_amp = (one.family == "nat" and one.model != "dinat_large") or one.family == "biformer"
    assert wrapper.type == ("AmpOptimWrapper" if uses_amp else "OptimWrapper")
    assert wrapper.get("clip_grad") is None
    light = one.head == "semantic-fpn" or (one.is_detector and decays_all(one) and one.family != "davit")
    decay = 1e-4 if light else 0.05 if one.is_detector else 0.01
    rate = RATES.get(name, 1e-4) if one.is_detector else 6e-5 if one.head == "upernet" else 2e-4
    assert wrapper.optimizer == {"type": "AdamW", "lr": rate, "weight_decay": decay}
    epochs, iterations = cfg.train_cfg.get("max_epochs"), cfg.train_cfg.get("max_iters")
    if one.is_detector:
        assert (epochs, iterations) == ({"1x": 12, "3x": 36}[one.schedule], None)
        assert (schedule.type, tuple(schedule.milestones)) == (
            "WarmupMultiStep",
            {"1x": (8, 11), "3x": (27, 33)}[one.schedule],
        )
        assert (schedule.warmup_iters, schedule.warmup_lr) == (500, pytest.approx(rate / 1000))
    else:
        assert (epochs, iterations) == (None, 1000 * int(one.schedule[:-1]))
        expected: dict[str, dict[str, Any]] = {
            "40k": {"type": "WarmupPoly", "power": 0.9},
            "80k": {
                "type": "WarmupCosine",
                "min_lr": 2e-12,
                "warmup_iters": 1000,
                "warmup_lr": 2e-5,
                "warmup_scales": True,
            },
            "160k": {
                "type": "WarmupPoly",
                "power": 1.0,
                "warmup_iters": 1500,
                "warmup_lr": 6e-11,
                "warmup_scales": True,
            },
        }
        assert schedule == expected[one.schedule]
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch_of(one)


@pytest.mark.parametrize("name", RECIPES)
def test_data_match_the_published_ones(name: str):
    one, cfg = RECIPES[name], config(name)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    # ImageNet's mean and standard deviation, even if VAN's weights were trained with others.
    normalization = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    if one.is_detector:
        assert cfg.model.data_preprocessor == {**normalization, "size_divisor": 32}
        assert train.transform == {"type": "DetectionTrain", "mode": "detr" if is_multi_scale(one) else "single-scale"}
        assert val.transform == {"type": "DetectionTest", "scale": (1333, 800)}
        assert cfg.train_dataloader.batch_sampler.type == "AspectRatioBatchSampler"
        only_boxes = one.head == "retinanet"
        assert train.get("with_masks", True) == val.get("with_masks", True) == (not only_boxes)
        assert tuple(cfg.val_evaluator.iou_types) == (("bbox",) if only_boxes else ("bbox", "segm"))
        assert cfg.test_evaluator == cfg.val_evaluator
    else:
        side = 640 if one.data == "ade20k-640" else 512
        assert cfg.model.data_preprocessor == {**normalization, "train_size": (side, side)}
        assert train.transform == {
            "type": "SegmentationTrain",
            "scale": (4 * side, side),
            "crop_size": (side, side),
        }
        multiple = one.family == "van" or (one.family, one.head) == ("biformer", "semantic-fpn")
        expected = {"type": "SegmentationTest", "scale": (4 * side, side)}
        assert val.transform == (expected | {"resize_to_multiple": 32} if multiple else expected)
        assert (train.type, cfg.val_evaluator.type) == ("ADE20K", "MeanIoU")


@pytest.mark.parametrize("name", RECIPES)
def test_heads_match_the_published_ones(name: str):
    one, cfg = RECIPES[name], config(name)
    model = cfg.model
    assert model.get("norm_eval", False) == (one.family == "biformer" and one.is_detector)
    early = one.family in ("biformer", "davit")  # evaluated with mmdet 2.11
    synchronized = one.head in ("cascade-mask-rcnn", "semantic-fpn", "upernet") and one.family != "davit"
    assert cfg.get("sync_bn", False) == synchronized
    if one.head == "retinanet":
        assert model.bbox_head.get("test", {}).get("nms_pre_of", "pairs") == ("anchors" if early else "pairs")
        assert model.neck.add_extra_convs == "on_input"
        assert tuple(model.backbone.out_indices) == (1, 2, 3)
    elif one.is_detector:
        assert model.roi_head.test == {"rescale_before_nms": True}
        cascade = one.head == "cascade-mask-rcnn"
        assert model.roi_head.type == ("CascadeRoIHead" if cascade else "StandardRoIHead")
        rpn = model.rpn_head
        assert (rpn.get("allowed_border", -1), rpn.get("train_proposals", {}).get("max_per_img", 1000)) == (
            (0, 2000) if cascade else (-1, 1000)
        )
        for key in ("train_proposals", "test_proposals"):
            assert rpn.get(key, {}).get("min_bbox_size", 0) == (-1 if early else 0)
        if cascade:
            assert (model.roi_head.bbox_head.num_shared_convs, model.roi_head.bbox_head.bbox_loss) == (4, "giou")
    else:
        assert ("auxiliary_head" in model) == (one.head == "upernet")
        assert model.decode_head.num_classes == 150


def decays(name: str) -> dict[str, float]:
    """Returns the weight decay of each parameter of a recipe's model."""
    cfg = config(name)
    model = cfg.model.to_dict()
    model["backbone"]["pretrained"] = False
    with torch.device("meta"):
        built = MODELS.build(model)
    optimizer = cfg.optim_wrapper.optimizer
    groups = parameter_groups(built, optimizer.lr, optimizer.weight_decay, cfg.optim_wrapper.paramwise_cfg)
    return {parameter: group["weight_decay"] for group in groups for parameter in group["param_names"]}


@pytest.mark.parametrize("name", sorted(representatives()))
def test_weight_decay_matches_the_published_one(name: str):
    """OpenMMLab's custom_keys match substrings of names: norms of backbones, but not those of heads, called "bn"."""
    one, found = RECIPES[name], decays(name)
    full = config(name).optim_wrapper.optimizer.weight_decay
    undecayed = {parameter for parameter, decay in found.items() if decay == 0}
    assert all(found[parameter] == full for parameter in found.keys() - undecayed)
    if decays_all(one):
        assert not undecayed
        return
    patterns = ("norm", ".rpb", *(AGENT_BIASES if one.family == "agent" else ()))
    assert undecayed == {parameter for parameter in found if any(pattern in parameter for pattern in patterns)}
    for pattern in patterns:
        expected = pattern != ".rpb" or one.family in ("nat", "agent")
        assert any(pattern in parameter for parameter in undecayed) == expected, pattern
    decayed = found.keys() - undecayed
    assert any(parameter.startswith("backbone.") and parameter.endswith("bias") for parameter in decayed)
    if one.head in ("upernet", "cascade-mask-rcnn"):
        assert any(parameter.endswith(".bn.weight") and "_head." in parameter for parameter in decayed)


@pytest.mark.parametrize("name", RECIPES)
def test_weight_decay_is_set_the_same_way_in_all_recipes(name: str):
    one, options = RECIPES[name], config(name).optim_wrapper.paramwise_cfg
    assert {options[key] for key in ("norm_decay_mult", "bias_decay_mult", "flat_decay_mult")} == {1.0}
    if one.head == "semantic-fpn":
        assert options.get("custom_keys", {}) == {}
        assert not options.use_no_weight_decay
        return
    agent = one.model.startswith("agent_swin")
    expected = {"norm": {"decay_mult": 1.0 if decays_all(one) else 0.0}}
    assert options.custom_keys == (
        expected | {bias: {"decay_mult": 0.0} for bias in AGENT_BIASES} if agent else expected
    )
