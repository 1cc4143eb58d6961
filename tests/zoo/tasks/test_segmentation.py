"""Segmentors: official predictions, whole and by windows; losses; views; building from configs; a real training."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from attnzoo.heads.segmentation.label_maps import View, best_classes
from attnzoo.heads.structures import ImageInfo
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import Segmentor
from support import head_packs, parity, segmentation_packs

IMAGE_CASES = [(name, case) for name in segmentation_packs.PACKS for case in head_packs.case_names(name, "image")]
BODY: dict[str, Any] = {
    "type": "nat_mini",
    "features_only": True,
    "depths": (1, 2, 1),
    "embed_dims": (32, 64, 96),
    "num_heads": (1, 2, 3),
    "kernel_size": 3,
    "stem_stride": 2,
}
CLASSES = 4


class TinyBackbone(nn.Module):
    """Three maps of 4, 6 and 8 channels at strides of 2, 4 and 8, with BatchNorm; counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((4, 6), (6, 8)))

        class Info:
            @staticmethod
            def channels():
                return [4, 6, 8]

        self.feature_info = Info()

    def forward(self, image):
        self.calls += 1
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]).relu())
        return maps


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "type": "Segmentor",
        "backbone": TinyBackbone(),
        "decode_head": {"type": "MLPHead", "channels": 8, "num_classes": CLASSES, "dropout_ratio": 0.0},
        "data_preprocessor": {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
        **options,
    }
    model = MODELS.build(config)
    with torch.no_grad():  # the initial classifier hardly tells classes apart
        model.decode_head.conv_seg.weight *= 100
    return model


def batch(*sizes: tuple[int, int], training: bool = True, original: tuple[int, int] | None = None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    sizes = sizes or ((17, 22), (15, 24))
    return {
        "image": [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes],
        "info": [ImageInfo(size, original or size) for size in sizes],
        "label_map": [
            torch.randint(0, CLASSES, size if training else original or size, generator=generator, dtype=torch.uint8)
            for size in sizes
        ],
        "index": [10 + number for number in range(len(sizes))],
        "epoch": [0] * len(sizes),
        "repeat": [0] * len(sizes),
        "path": [f"{number}.jpg" for number in range(len(sizes))],
        "broken": [],
    }


def losses(model: Any, data: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    return model(**model.data_preprocessor(data or batch(), True), mode="loss")


# Official numbers


@pytest.fixture(scope="module")
def official():
    """Gives a pack's segmentor with its weights, built once, with the settings of a case."""
    built: dict[str, Segmentor] = {}

    def segmentor(name: str, case: dict[str, Any]) -> Any:
        pack, _ = head_packs.load(name)
        if name not in built:
            built[name] = MODELS.build(segmentation_packs.segmentor_config(pack)).eval()
            built[name].load_state_dict(parity.filled_state_dict(pack), strict=True)
        config = segmentation_packs.segmentor_config(pack, case)
        twin = MODELS.build(config | {"backbone": nn.Identity(), "neck": None, "auxiliary_head": None})
        built[name].inference = twin.inference
        built[name].data_preprocessor = twin.data_preprocessor
        return built[name]

    return segmentor


@pytest.mark.parametrize(("name", "case"), IMAGE_CASES)
def test_predictions_are_the_official_ones(name: str, case: str, official, monkeypatch):
    pack, tensors = head_packs.load(name)
    facts = head_packs.case_of(pack, case)
    model = official(name, facts)
    seen: list[View] = []

    def watched(views):
        seen.extend(views)
        return best_classes(views)

    monkeypatch.setattr("attnzoo.zoo.tasks.segmentation.best_classes", watched)
    (image,) = head_packs.images(facts)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    data = {"image": [rgb], "info": head_packs.infos(facts), "index": [0]}
    head_packs.check(model.data_preprocessor(data)["image"], facts, tensors, "input")
    (found,) = model.test_step(data)
    (view,) = seen
    head_packs.check(view.logits(), facts, tensors, "logits_0")
    labels = tensors[f"{case}/labels_0"]
    flat = found["label_map"].reshape(-1)
    assert list(found["label_map"].shape) == facts["outputs"]["labels_0"][1:]
    assert torch.equal(flat[:: -(-flat.numel() // 4096)].float(), labels.reshape(-1).float())
    assert found["label_map"].dtype == torch.int64


# Losses


def test_losses_have_mmsegs_names_and_features_are_computed_once():
    model = build(
        auxiliary_head={"type": "FCNHead", "channels": 8, "in_index": 1, "num_classes": CLASSES, "loss_weight": 0.4}
    ).eval()
    found = losses(model)
    assert set(found) == {"decode.loss_ce", "decode.acc_seg", "aux.loss_ce", "aux.acc_seg"}
    assert model.backbone.calls == 1
    data = model.data_preprocessor(batch(), True)
    features = model.backbone(data["image"])
    label_map = data["label_map"]
    assert label_map.shape == (2, 17, 24)
    torch.testing.assert_close(found["decode.loss_ce"], model.decode_head.losses(features, label_map)["loss_ce"])
    aux = model.auxiliary_head
    torch.testing.assert_close(found["aux.loss_ce"], aux.losses(features, label_map)["loss_ce"])
    weighted = aux.losses(features, label_map)["loss_ce"].item()
    aux.loss_weight = 1.0
    assert weighted == pytest.approx(0.4 * aux.losses(features, label_map)["loss_ce"].item())
    total, _ = model.parse_losses(found)
    torch.testing.assert_close(total, found["decode.loss_ce"] + found["aux.loss_ce"])


def test_a_training_step_changes_every_weight():
    aux = {"type": "FCNHead", "channels": 8, "num_convs": 1, "concat_input": False, "num_classes": CLASSES}
    model = build(neck={"type": "FPN", "out_channels": 8, "num_outs": 3}, auxiliary_head=aux).train()
    before = copy.deepcopy(dict(model.named_parameters()))
    logged = model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert {"loss", "decode.loss_ce", "aux.acc_seg"} <= set(logged)
    for name, parameter in model.named_parameters():
        if name != "backbone.stem.0.bias":  # BatchNorm takes it away again
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_a_label_that_is_no_class_is_named_with_its_file_in_training_alone(kind):
    model = build()
    data = batch()
    data["label_map"] = [one.to(kind) for one in data["label_map"]]
    data["label_map"][1][3, 4] = 9
    with pytest.raises(
        ValueError, match=r"label map of 1.jpg contains 9, but labels must be 0 to 3 \(num_classes=4\) or 255"
    ):
        model.data_preprocessor(data, True)
    with pytest.raises(ValueError, match="contains 9"):
        copy.deepcopy(model).train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    del data["path"]
    with pytest.raises(ValueError, match="label map of number 1 of the batch contains 9"):
        model.data_preprocessor(data, training=True)
    model.data_preprocessor(data, False)
    data["label_map"][1][3, 4] = 255
    losses(model, data)


# Predictions


def test_predictions_tell_labels_truth_and_sample():
    model = build().eval()
    data = batch((17, 22), (15, 24), training=False, original=(31, 45))
    found = model.test_step(data)
    prepared = model.data_preprocessor(data)
    assert prepared["image"].shape[-2:] == (17, 24)
    logits = model(prepared["image"])
    assert logits.shape == (2, CLASSES, 9, 12)
    for number, one in enumerate(found):
        size = data["info"][number].image_size
        view = View([(logits[number], (0, 0, 17, 24))], (17, 24), size, (31, 45))
        assert torch.equal(one.pop("label_map"), best_classes([view]))
        assert torch.equal(one.pop("truth"), data["label_map"][number])
        assert one == {"index": 10 + number, "path": f"{number}.jpg", "info": prepared["info"][number]}
    (alone,) = model.test_step({"image": data["image"][:1]})
    assert alone["label_map"].shape == (17, 22)
    assert (alone["truth"], alone["index"], alone["path"]) == (None, None, None)


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_as_in_the_head(align_corners: bool):
    head = {"type": "MLPHead", "channels": 8, "num_classes": CLASSES, "align_corners": align_corners}
    model = build(decode_head=head).eval()
    data = model.data_preprocessor(batch((17, 22), training=False, original=(34, 44)))
    with torch.no_grad():
        logits = model(data["image"])
        found = model(**data, mode="predict")[0]["label_map"]
    for size in ((17, 22), (34, 44)):
        logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    assert torch.equal(found, logits.argmax(1)[0])


def test_the_auxiliary_head_has_no_part_in_predictions():
    model = build(auxiliary_head={"type": "FCNHead", "channels": 8, "num_classes": CLASSES}).eval()
    model.auxiliary_head.forward = None
    assert len(model.test_step(batch())) == 2


def test_windows_as_large_as_the_image_are_the_whole():
    data = batch((17, 22), (17, 22))
    whole = build().eval().test_step(data)
    one_window = build(inference={"mode": "slide", "crop_size": (32, 22), "stride": (9, 9)}).eval()
    windows = build(inference={"mode": "slide", "crop_size": (9, 9), "stride": (4, 4)}).eval()
    found = one_window.test_step(data)
    assert one_window.backbone.calls == 1
    assert all(torch.equal(a["label_map"], b["label_map"]) for a, b in zip(found, whole, strict=True))
    found = windows.test_step(data)
    assert windows.backbone.calls == 3 * 5
    assert not all(torch.equal(a["label_map"], b["label_map"]) for a, b in zip(found, whole, strict=True))


def views_of(data: dict[str, Any]) -> dict[str, Any]:
    """The first image of a batch as it is, mirrored, and enlarged."""
    image, info = data["image"][0], data["info"][0]
    large = nn.functional.interpolate(image[None].float() / 255, (25, 33), mode="bilinear")[0]
    views = [
        {"image": image, "info": info},
        {"image": image.flip(-1), "info": ImageInfo(info.image_size, info.original_size, flip=True)},
        {"image": large, "info": ImageInfo((25, 33), info.original_size)},
    ]
    return {"views": [views], "index": [4], "path": ["a.jpg"], "label_map": data["label_map"][:1]}


@pytest.mark.parametrize("inference", [{"mode": "whole"}, {"mode": "slide", "crop_size": (16, 16), "stride": (11, 11)}])
def test_views_average_probabilities(inference):
    model = build(inference=inference, data_preprocessor={"size_divisor": 8}).eval()
    data = views_of(batch((17, 22), original=(31, 45), training=False))
    (found,) = model.test_step(data)
    total = torch.zeros(CLASSES, 31, 45)
    with torch.no_grad():
        for view in data["views"][0]:
            prepared = model.data_preprocessor({"image": [view["image"]], "info": [view["info"]]})
            (seen,) = model._view_logits(prepared["image"], prepared["info"])
            logits = seen.logits()
            total += logits.softmax(0)
    assert torch.equal(found["label_map"], total.argmax(0))
    assert (found["index"], found["path"]) == (4, "a.jpg")
    assert found["info"].original_size == (31, 45)
    assert torch.equal(found["truth"], data["label_map"][0])


def test_a_mirrored_view_of_a_model_without_sides_changes_nothing():
    model = build().eval()
    for module in model.modules():  # kernels that look alike from both sides, and no stride
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight + module.weight.flip(-1)) / 2
            module.stride = (1, 1)
    data = views_of(batch((17, 23), original=(31, 45), training=False))
    plain, mirrored, _ = data["views"][0]
    expected = model.test_step({"image": [plain["image"]], "info": [plain["info"]]})[0]["label_map"]
    (found,) = model.test_step({"views": [[plain, mirrored]]})
    assert torch.equal(found["label_map"], expected)
    wrong = {**mirrored, "info": plain["info"]}
    (found,) = model.test_step({"views": [[plain, wrong]]})
    assert not torch.equal(found["label_map"], expected)


# Building


def test_channels_come_from_the_backbone():
    backbone = {**BODY, "out_indices": (0, 2)}
    plain = build(backbone=backbone, auxiliary_head={"type": "FCNHead", "in_index": 0, "num_classes": CLASSES})
    assert plain.decode_head.in_channels == (32, 96)
    assert plain.auxiliary_head.in_channels == (32,)
    last = build(auxiliary_head={"type": "FCNHead", "num_classes": CLASSES})
    assert last.auxiliary_head.in_channels == (8,)
    head = {"type": "FPNHead", "in_index": (1, 0), "feature_strides": (4, 4), "num_classes": CLASSES}
    assert build(decode_head=head).decode_head.in_channels == (6, 4)
    neck = {"type": "FPN", "out_channels": 16, "num_outs": 4}
    with_neck = build(neck=neck)
    assert with_neck.neck.in_channels == (4, 6, 8)
    assert with_neck.decode_head.in_channels == (16,) * 4
    assert {name.split(".")[0] for name in with_neck.state_dict()} == {"backbone", "neck", "decode_head"}


def test_frozen_stages_and_fixed_statistics():
    model = build(backbone={**BODY, "drop_path_rate": 0.3}, frozen_stages=1, norm_eval=True).train()
    frozen = ("backbone.body.stem.", "backbone.body.stages.0.")
    losses(model)["decode.loss_ce"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
    body = model.backbone.body
    assert not any(module.training for part in (body.stem, body.stages[0]) for module in part.modules())
    assert body.stages[1].training
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    with pytest.raises(ValueError, match="between 0 and 3, got 4"):
        build(backbone=BODY, frozen_stages=4)


def test_weights_to_start_from_are_the_backbones(tmp_path):
    start = build(backbone=BODY)
    path = tmp_path / "body.pth"
    torch.save(start.backbone.body.state_dict(), path)
    model = build(backbone=BODY, init_weights=str(path))
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
    model.init_weights()
    for name, value in start.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name


def test_a_checkpoint_with_a_second_head_loads_into_a_segmentor_without():
    from attnzoo import load_weights

    whole = build(backbone=BODY, auxiliary_head={"type": "FCNHead", "in_index": 1, "num_classes": CLASSES})
    model = build(backbone=BODY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, whole.state_dict())
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference": {"mode": "slid"}}, "'slide'"),
        ({"inference": {"mode": "slide", "crop_size": (8, 8)}}, r"inference.stride must be \(height, width\)"),
        ({"inference": {"mode": "slide", "crop_size": (8,), "stride": (4, 4)}}, r"inference.crop_size must be"),
        ({"inference": {"mode": "slide", "crop_size": (8, 8), "stride": (4, 9)}}, "would leave gaps"),
        ({"inference": {"mode": "whole", "crop_size": (8, 8)}}, "with mode 'whole'"),
        (
            {"auxiliary_head": {"type": "FCNHead", "num_classes": 5}},
            r"got decode_head\.num_classes=4 and auxiliary_head\.num_classes=5",
        ),
        (
            {"auxiliary_head": {"type": "FCNHead", "num_classes": 4, "in_index": 3}},
            "in_index of FCNHead must be between -3 and 2, got 3",
        ),
        (
            {"decode_head": {"type": "MLPHead", "num_classes": 4, "ignore_index": 254}},
            "ignore_index must be 255, .* got 254",
        ),
        ({"backbone": nn.Identity()}, "features_only=True"),
        ({"decode_head": {"type": "FPNHed", "num_classes": 4}}, "'FPNHead'"),
    ],
)
def test_impossible_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_what_a_batch_lacks_is_named():
    model = build()
    image = torch.zeros(1, 3, 16, 16)
    for options, message in (
        ({"mode": "los"}, "Unknown mode 'los'.*'loss'"),
        ({"mode": "loss", "image": image}, "no `label_map`"),
        ({"mode": "loss", "image": image, "label_map": [image]}, "DensePreprocessor"),
        ({"mode": "predict", "image": image}, "no `info`"),
        ({"mode": "predict"}, "no `image`"),
        ({"mode": "loss", "views": []}, "views must have mode 'predict', got mode='loss'"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**options)


@pytest.mark.slow
def test_a_segmentor_learns_an_image_by_heart():
    """A disc, a square and a bar on textured ground, through a real backbone and Semantic FPN, in seconds."""
    rows, columns = torch.meshgrid(torch.arange(47), torch.arange(62), indexing="ij")
    label_map = torch.zeros(47, 62, dtype=torch.uint8)
    label_map[((rows - 14) ** 2 + (columns - 16) ** 2) < 81] = 1
    label_map[25:42, 30:50] = 2
    label_map[5:10, 35:60] = 3
    colours = torch.tensor([[90, 90, 90], [200, 60, 60], [60, 200, 60], [60, 60, 200]])
    noise = torch.randint(-60, 61, (3, 47, 62), generator=torch.Generator().manual_seed(0))
    image = (colours[label_map.long()].permute(2, 0, 1) + noise).clamp(0, 255).to(torch.uint8)
    label_map[:3] = 255
    model = build(
        backbone=BODY,
        neck={"type": "FPN", "out_channels": 32, "num_outs": 3},
        decode_head={"type": "FPNHead", "channels": 32, "feature_strides": (2, 4, 8), "num_classes": CLASSES},
        auxiliary_head={"type": "FCNHead", "channels": 16, "in_index": 1, "num_classes": CLASSES, "loss_weight": 0.4},
    )
    data = {"image": [image], "info": [ImageInfo((47, 62), (47, 62))], "label_map": [label_map], "index": [0]}
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    begin = time.process_time()
    first, last = 0.0, 0.0
    for _ in range(60):
        model.train()
        last = model.train_step(data, optimizer)["decode.loss_ce"].item()
        first = first or last
    model.eval()
    (found,) = model.val_step(data)
    counted = label_map != 255
    right = (found["label_map"] == label_map)[counted].float().mean().item()
    assert last < 0.1 * first
    assert right > 0.98, right
    assert time.process_time() - begin < 60
