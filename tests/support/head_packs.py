"""Parity packs of necks and heads: builds inputs, converts reference configs to our arguments, and compares outputs.

The cases of a pack have the seeds of feature maps and images, the sizes of the images, and input tensors (ground truth,
proposals), which are stored with the outputs as "<case>/in/<name>".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.heads.structures import Detections, ImageInfo, Instances
from support import parity

Pack = Mapping[str, Any]
Case = Mapping[str, Any]
Tensors = Mapping[str, torch.Tensor]

TOLERANCE = 1e-5
"""Maximum relative error of a correct float32 implementation."""


def load(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads the description and the stored tensors of a pack."""
    return parity.load_pack("heads", name)


def case_of(pack: Pack, name: str) -> dict[str, Any]:
    """Returns the case of a pack by name."""
    return next(case for case in pack["cases"] if case["name"] == name)


def case_names(name: str, *calls: str) -> list[str]:
    """Returns the names of a pack's cases, optionally only those of some calls."""
    return [case["name"] for case in load(name)[0]["cases"] if not calls or case["call"] in calls]


def weights(pack: Pack, prefix: str) -> dict[str, torch.Tensor]:
    """Returns the weights whose names start with a prefix ("rpn_head."), and removes the prefix."""
    filled = parity.filled_state_dict(pack)
    return {name.removeprefix(prefix): tensor for name, tensor in filled.items() if name.startswith(prefix)}


def load_weights(module: nn.Module, pack: Pack, prefix: str) -> nn.Module:
    """Loads a pack's weights strictly, and returns the module in eval mode."""
    module.load_state_dict(weights(pack, prefix), strict=True)
    return module.eval()


# Inputs


def features(case: Case) -> list[torch.Tensor]:
    """Returns the feature maps (N, C, H, W) of a case, finest first."""
    return [
        torch.from_numpy(np.random.RandomState(one["seed"]).standard_normal(one["shape"]).astype(np.float32))
        for one in case["inputs"]["features"]
    ]


def infos(case: Case) -> list[ImageInfo]:
    """Returns the sizes and scale factors of a case's images."""
    return [
        ImageInfo(
            image_size=tuple(meta["img_shape"]),
            original_size=tuple(meta["ori_shape"]),
            scale_factor=tuple(meta.get("scale_factor", (1.0, 1.0))),
            batch_size=tuple(meta["batch_input_shape"]) if "batch_input_shape" in meta else None,
            padded_size=tuple(meta["pad_shape"]) if "pad_shape" in meta else None,
        )
        for meta in case["inputs"]["metas"]
    ]


def given(case: Case, tensors: Tensors, name: str) -> torch.Tensor:
    """Returns a stored input of a case."""
    return tensors[f"{case['name']}/in/{name}"]


def targets(case: Case, tensors: Tensors) -> list[Instances]:
    """Returns the ground truth of a case's images, with masks if the case has them."""
    stored = case["input_tensors"]
    found = []
    for index in range(len(case["inputs"]["metas"])):
        masks = ignored = None
        if f"gt_masks_{index}" in stored:
            shape = case["inputs"]["gt_mask_shapes"][index]
            bits = np.unpackbits(given(case, tensors, f"gt_masks_{index}").numpy())
            masks = torch.from_numpy(bits[: int(np.prod(shape))].reshape(shape))
        if f"ignored_bboxes_{index}" in stored:
            ignored = given(case, tensors, f"ignored_bboxes_{index}")
        boxes, labels = (given(case, tensors, f"gt_{kind}_{index}") for kind in ("bboxes", "labels"))
        found.append(Instances(boxes, labels, masks, ignored))
    return found


def proposals(case: Case, tensors: Tensors) -> list[Detections]:
    """Returns the stored proposals of a case's images in the format of an RPN, with scores of 1."""
    boxes = [given(case, tensors, f"proposals_{index}") for index in range(len(case["inputs"]["metas"]))]
    return [Detections(one, one.new_ones(len(one)), one.new_zeros(len(one), dtype=torch.int64)) for one in boxes]


def images(case: Case) -> list[np.ndarray]:
    """Returns the resized images of a case, uint8 (height, width, 3) in BGR order."""
    found = []
    for one in case["inputs"]["images"]:
        height, width, _ = one["shape"]
        block, seed = one["block"], one["seed"]
        base = np.random.RandomState(seed).randint(0, 256, (-(-height // block), -(-width // block), 3))
        blocks = base.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
        noise = np.random.RandomState(seed + 1).randint(-20, 21, (height, width, 3))
        found.append(np.clip(blocks + noise, 0, 255).astype(np.uint8))
    return found


def batch(pack: Pack, case: Case, size_divisor: int | None = None) -> torch.Tensor:
    """Normalizes and pads a case's images like the pack's preprocessor: (N, 3, H, W) float32 in RGB order.

    Args:
        pack: Pack whose config has the mean and standard deviation.
        case: Case with images.
        size_divisor: Height and width are padded to multiples of this; the config's by default.
    """
    settings = pack["config"]["data_preprocessor"]
    divisor = size_divisor or settings.get("pad_size_divisor") or 1
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    normalized = [
        (torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1).float() - mean) / std
        for image in images(case)
    ]
    height, width = (-(-max(one.shape[axis] for one in normalized) // divisor) * divisor for axis in (1, 2))
    return torch.stack([F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in normalized])


def label_maps(case: Case) -> torch.Tensor:
    """Returns the label maps of a segmentation case, int64 (N, H, W); 255 means ignored."""
    one = case["inputs"]["gt"]
    count, height, width = one["shape"]
    block, random = one["block"], np.random.RandomState(one["seed"])
    small = random.randint(0, one["classes"], (count, -(-height // block), -(-width // block)))
    small[random.uniform(size=small.shape) < one["ignore"]] = 255
    maps = small.repeat(block, axis=1).repeat(block, axis=2)[:, :height, :width]
    return torch.from_numpy(np.ascontiguousarray(maps)).long()


class TinyBackbone(nn.Module):
    """The backbone of cases with images: four strided convolutions with ReLUs; strides 4, 8, 16 and 32."""

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        widths = [3, *channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4 if i == 0 else 2, stride=4 if i == 0 else 2)
            for i in range(len(channels))
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for conv in self.convs:
            image = conv(image).relu()
            maps.append(image)
        return maps


def tiny_backbone(pack: Pack) -> nn.Module:
    """Builds a pack's backbone with its weights."""
    return load_weights(TinyBackbone(pack["config"]["backbone"]["channels"]), pack, "backbone.")


# Conversion of reference configs to arguments of our heads


def without_type(config: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Copies a config without "type" and the given keys, and converts lists to tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key not in ("type", *others)
    }


def fpn_arguments(pack: Pack) -> dict[str, Any]:
    """Converts a pack's neck config to arguments of our FPN."""
    config = pack["config"]
    return without_type(config.get("neck", config))


def proposal_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a reference `rpn_proposal` or `test_cfg.rpn` to our proposal settings."""
    return {**without_type(config, "nms"), "nms_iou": config["nms"]["iou_threshold"]}


def rpn_arguments(pack: Pack, without_chance: bool = False) -> dict[str, Any]:
    """Converts a pack's config to arguments of our RPNHead.

    Args:
        pack: Pack of a detector with an RPN.
        without_chance: Use the training settings without random sampling.
    """
    config = pack["config"]
    head = config["rpn_head"]
    train = (pack["loss_train_cfg"] if without_chance else config["train_cfg"])["rpn"]
    arguments = {
        "in_channels": head["in_channels"],
        "feat_channels": head["feat_channels"],
        "anchor_generator": without_type(head["anchor_generator"]),
        "bbox_coder": without_type(head["bbox_coder"]),
        "bbox_loss": {"L1Loss": "l1", "SmoothL1Loss": "smooth_l1"}[head["loss_bbox"]["type"]],
        "loss_weights": (head["loss_cls"]["loss_weight"], head["loss_bbox"]["loss_weight"]),
        "assigner": without_type(train["assigner"]),
        "sampler": without_type(train["sampler"]),
        "allowed_border": train["allowed_border"],
        "test_proposals": proposal_arguments(config["test_cfg"]["rpn"]),
    }
    if "beta" in head["loss_bbox"]:
        arguments["smooth_l1_beta"] = head["loss_bbox"]["beta"]
    if "rpn_proposal" in config["train_cfg"]:
        arguments["train_proposals"] = proposal_arguments(config["train_cfg"]["rpn_proposal"])
    return arguments


def retina_arguments(pack: Pack, test: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Converts a pack's config to arguments of our RetinaHead.

    Args:
        pack: Pack with a RetinaHead.
        test: Test settings of a case, which override the config's.
    """
    config = pack["config"]
    head = config["bbox_head"]
    settings = {**config["test_cfg"], **(test or {})}
    return {
        **{key: head[key] for key in ("num_classes", "in_channels", "stacked_convs", "feat_channels")},
        "anchor_generator": without_type(head["anchor_generator"]),
        "bbox_coder": without_type(head["bbox_coder"]),
        "focal_gamma": head["loss_cls"]["gamma"],
        "focal_alpha": head["loss_cls"]["alpha"],
        "loss_weights": (head["loss_cls"]["loss_weight"], head["loss_bbox"]["loss_weight"]),
        "assigner": without_type(config["train_cfg"]["assigner"]),
        "allowed_border": config["train_cfg"]["allowed_border"],
        "test": proposal_arguments(settings),
    }


# Comparison


def check(actual: torch.Tensor, case: Case, tensors: Tensors, name: str, tolerance: float = TOLERANCE) -> None:
    """Asserts that a tensor has the shape and, up to a relative error, the stored values of a case's output."""
    assert list(actual.shape) == case["outputs"][name], (name, tuple(actual.shape), case["outputs"][name])
    golden = tensors[f"{case['name']}/{name}"]
    if not golden.numel():
        return
    if not golden.any():  # the relative error is undefined
        assert not actual.any(), name
        return
    error = parity.relative_error(actual, golden.reshape(-1))
    assert error <= tolerance, f"{case['name']}/{name}: relative error {error:.2e}"


def check_equal(actual: torch.Tensor, case: Case, tensors: Tensors, name: str) -> None:
    """Asserts that a tensor equals the stored values of a case's output bit for bit."""
    assert list(actual.shape) == case["outputs"][name], (name, tuple(actual.shape), case["outputs"][name])
    golden = tensors[f"{case['name']}/{name}"].reshape(-1)
    step = max(1, -(-actual.numel() // max(1, len(golden))))
    assert torch.equal(actual.detach().float().reshape(-1)[::step], golden), f"{case['name']}/{name}"


def check_losses(losses: Mapping[str, torch.Tensor], case: Case, tolerance: float = TOLERANCE) -> None:
    """Asserts that each loss equals that of a case; stored losses of several levels are summed."""
    assert set(losses) == set(case["losses"])
    for name, golden in case["losses"].items():
        total = sum(golden) if isinstance(golden, list) else golden
        found = losses[name].item()
        assert abs(found - total) <= tolerance * max(abs(total), 1e-12), f"{name}: got {found}, expected {total}"


def check_detections(
    found: Detections, case: Case, tensors: Tensors, image: int, names: tuple[str, str, str | None] | None = None
) -> None:
    """Asserts that an image's detections equal a case's: count, order, labels, scores, and boxes within 1e-3 pixels.

    Detections may only be swapped if their scores are equal up to rounding.

    Args:
        found: Detections of our head.
        case: Case of the pack.
        tensors: Tensors of the pack.
        image: Index of the image in the case.
        names: Names of the outputs with boxes, scores and labels, without the index of the image. The default is that
            of final detections.
    """
    box_name, score_name, label_name = names or ("boxes", "scores", "labels")
    boxes = tensors[f"{case['name']}/{box_name}_{image}"].reshape(-1, 4)
    scores = tensors[f"{case['name']}/{score_name}_{image}"].reshape(-1)
    assert [len(boxes), 4] == case["outputs"][f"{box_name}_{image}"], (
        "the pack does not store all values of this output"
    )
    assert found.boxes.shape == boxes.shape, (tuple(found.boxes.shape), tuple(boxes.shape))
    labels = torch.zeros(len(boxes)) if label_name is None else tensors[f"{case['name']}/{label_name}_{image}"]
    torch.testing.assert_close(found.scores, scores, rtol=1e-5, atol=2e-6)
    same = ((found.boxes - boxes).abs().amax(1) <= 1e-3) & (found.labels == labels.reshape(-1))
    rows = (~same).nonzero().flatten()
    unmatched = set(rows.tolist())
    for row in rows.tolist():
        twin = next(
            (
                other
                for other in sorted(unmatched)
                if abs(float(scores[other] - scores[row])) <= 4e-6
                and float((found.boxes[row] - boxes[other]).abs().max()) <= 1e-3
                and int(found.labels[row]) == int(labels.reshape(-1)[other])
            ),
            None,
        )
        assert twin is not None, f"row {row}: got {found.boxes[row].tolist()}, expected {boxes[row].tolist()}"
        unmatched.discard(twin)


def proposal_names() -> tuple[str, str, None]:
    """Returns the output names of proposals for `check_detections`."""
    return "proposals", "proposal_scores", None
