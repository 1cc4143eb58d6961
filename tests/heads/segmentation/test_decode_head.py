"""What all segmentation heads share: parity, any sizes, classifier, losses, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.heads.fpn import FPN
from attnzoo.heads.segmentation import FCNHead, FPNHead, MLPHead, UPerHead
from support import head_packs, segmentation_packs
from support.segmentors import HEADS, WIDTHS, build, maps, random_labels, trained
from support.slow import slow_except

CLASSES = {"FPNHead": FPNHead, "UPerHead": UPerHead, "FCNHead": FCNHead}


CASES = [(name, case) for name in segmentation_packs.PACKS for case in head_packs.case_names(name, "logits", "loss")]


@pytest.fixture(scope="module")
def official() -> Callable[[str], dict[str, Any]]:
    """Gives a pack's neck and heads with its weights, each built once."""
    built: dict[str, dict[str, Any]] = {}

    def parts(name: str) -> dict[str, Any]:
        if name not in built:
            pack, _ = head_packs.load(name)
            built[name] = {}
            if "neck" in pack["config"]:
                neck = FPN(**head_packs.fpn_arguments(pack))
                built[name]["neck"] = head_packs.load_weights(neck, pack, "neck.")
            for part in ("decode_head", "auxiliary_head"):
                config = segmentation_packs.head_config(pack["config"].get(part))
                if config is not None:
                    head = CLASSES[config.pop("type")](**config)
                    built[name][part] = head_packs.load_weights(head, pack, f"{part}.")
        return built[name]

    return parts


@pytest.mark.parametrize(("name", "case"), CASES)
def test_heads_match_the_reference_implementation(name: str, case: str, official: Callable[[str], dict[str, Any]]):
    pack, tensors = head_packs.load(name)
    facts = head_packs.case_of(pack, case)
    parts = dict(official(name))
    features = head_packs.features(facts)
    checked = set()
    with torch.no_grad():
        if "neck" in parts:
            features = parts.pop("neck")(features)
        for part, head in parts.items():
            if facts["call"] == "logits":
                found = {part: head(features), f"{part}.features": None}
                if f"{part}.features" in facts["outputs"]:
                    found[f"{part}.features"] = head.pixel_features([features[index] for index in head.in_index])
                for key, value in found.items():
                    if value is not None:
                        head_packs.check(value, facts, tensors, key)
                        checked.add(key)
            else:
                head.avg_non_ignore = facts["inputs"].get("avg_non_ignore", False)
                losses = head.losses(features, head_packs.label_maps(facts))
                for key, value in losses.items():
                    assert float(value) == pytest.approx(facts["losses"][f"{part}.{key}"], rel=1e-5)
                    checked.add(f"{part}.{key}")
    assert checked == {key for key in facts["outputs"] if not key.startswith("neck_")}


@pytest.mark.parametrize("name", HEADS)
def test_losses_in_mixed_precision_are_float32_and_alike(name: str):
    head, labels = trained(name), random_labels((2, 61, 90))
    exact = head.losses(maps(), labels)["loss_ce"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = head.losses(maps(), labels)["loss_ce"]
    assert rounded.dtype == torch.float32
    assert rounded != exact
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (13, 18)])
def test_maps_of_any_size_go_through(name: str, size: tuple[int, int]):
    head = build(name)
    features = maps(*size)
    expected = features[2].shape[-2:] if name == "fcn" else size
    assert head(features).shape == (2, 5, *expected)
    losses = head.losses(features, torch.zeros(2, 4 * size[0] + 1, 4 * size[1] + 3, dtype=torch.int64))
    losses["loss_ce"].backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert set(losses) == {"loss_ce", "acc_seg"}


@pytest.mark.parametrize("name", HEADS)
def test_group_norm_and_no_norm(name: str):
    options: dict[str, Any] = {"norm": "GN"}
    wide = {"fpn": FPNHead, "uper": UPerHead, "mlp": MLPHead}
    head = FCNHead(8, 32, in_index=2, num_classes=5, **options) if name == "fcn" else None
    head = head or wide[name]([*WIDTHS], 32, num_classes=5, **options)
    assert any(isinstance(module, nn.GroupNorm) for module in head.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in head.modules())
    head(maps())
    bare = build(name, norm=None)
    assert all(module.bias is not None for module in bare.modules() if isinstance(module, nn.Conv2d))


def test_class_weights_affect_the_loss_and_are_not_saved():
    plain, weighted = build("fpn"), build("fpn", class_weight=[1.0, 0.0, 0.0, 0.0, 0.0], avg_non_ignore=True)
    weighted.load_state_dict(plain.state_dict(), strict=True)
    labels = random_labels((2, 32, 48))
    only_first = torch.where(labels == 0, 0, 255)
    plain.avg_non_ignore = True
    expected = plain.eval().losses(maps(), only_first)["loss_ce"]
    torch.testing.assert_close(weighted.eval().losses(maps(), labels)["loss_ce"], expected)


def test_the_loss_is_weighted_and_of_resized_logits():
    head = trained("mlp", loss_weight=0.4)
    labels = random_labels((2, 61, 90))
    logits = F.interpolate(head(maps()), (61, 90), mode="bilinear")
    expected = 0.4 * F.cross_entropy(logits, labels, ignore_index=255, reduction="sum") / labels.numel()
    torch.testing.assert_close(head.losses(maps(), labels)["loss_ce"], expected)


def test_another_label_can_be_the_ignored_one():
    labels = random_labels((2, 16, 24))
    expected = trained("fpn").losses(maps(), labels)
    found = trained("fpn", ignore_index=-1).losses(maps(), torch.where(labels == 255, -1, labels))
    torch.testing.assert_close(found, expected)


def test_init_std_sets_the_classifier():
    torch.manual_seed(0)
    heads: list[Any] = [
        FPNHead([96] * 4, 96, num_classes=150, init_std=0.1),
        UPerHead([96] * 4, 96, num_classes=150, init_std=0.1),
        FCNHead(96, 96, num_classes=150, init_std=0.1),
        MLPHead([96] * 4, 96, num_classes=150, init_std=0.1),
    ]
    for head in heads:
        assert head.conv_seg.weight.std().item() == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match="init_std"):
        FCNHead(96, 96, num_classes=150, init_std=0)


@pytest.mark.parametrize("name", HEADS)
def test_initial_values_are_mmsegmentations(name: str):
    wide = {
        "fpn": lambda: FPNHead([96] * 4, 96, num_classes=150),
        "uper": lambda: UPerHead([96] * 4, 96, num_classes=150),
        "fcn": lambda: FCNHead(96, 96, num_classes=150),
        "mlp": lambda: MLPHead([96] * 4, 96, num_classes=150),
    }
    torch.manual_seed(0)
    head = wide[name]()
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not head.conv_seg.bias.any()
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    convolutions.remove(head.conv_seg)
    for module in convolutions:
        assert module.bias is None
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
        assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.eps == 1e-5
            assert module.momentum == 0.1
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_dropout_drops_channels_in_training_only():
    seen = []
    head = build("mlp", dropout_ratio=0.5).train()
    head.conv_seg.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        made = head.pixel_features(maps())
        head(maps())
        head.eval()(maps())
    gone = (seen[0] == 0).all(dim=(2, 3))
    kept = ~gone & (made != 0).any(dim=3).any(dim=2)
    assert gone.any()
    assert kept.any()
    torch.testing.assert_close(seen[0][kept], 2 * made[kept])
    assert torch.equal(seen[1], head.pixel_features(maps()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FPNHead([4, 6], 8, num_classes=1), "num_classes must be >= 2"),
        (
            lambda: FPNHead([4, 6], 8, num_classes=300, feature_strides=(4, 8)),
            r"ignore_index must not be a class label \(0 to 299\), got 255",
        ),
        (lambda: FPNHead([4, 6], 8, num_classes=5), r"one value per feature map \(2\)"),
        (lambda: FPNHead([4, 6], 8, num_classes=5, feature_strides=(4, 12)), "powers of 2"),
        (lambda: FPNHead([4, 6], 8, num_classes=5, feature_strides=(8, 4)), "powers of 2"),
        (lambda: MLPHead([4, 6], 8, num_classes=5, in_index=[0]), "in_channels and in_index must have the same length"),
        (lambda: MLPHead([], 8, num_classes=5), "in_channels and in_index must have the same length"),
        (lambda: MLPHead([4], 8, num_classes=5, class_weight=[1.0]), r"one number per class \(5\), got 1"),
        (lambda: MLPHead([4], 8, num_classes=5, dropout_ratio=1.0), r"dropout_ratio must be in \[0, 1\), got 1.0"),
        (lambda: build("mlp", norm="SyncBM"), "'SyncBM'"),
        (
            lambda: FCNHead(4, 8, num_classes=5, num_convs=0),
            "channels must equal in_channels with num_convs=0, got 8 and 4",
        ),
        (lambda: FCNHead(4, 8, num_classes=5, kernel_size=2), "kernel_size odd"),
        (lambda: UPerHead([4], 8, num_classes=5, pool_scales=()), "pool_scales"),
    ],
)
def test_invalid_arguments_raise(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_feature_maps_raise():
    with pytest.raises(ValueError, match=r"MLPHead needs feature maps \(0, 1, 2, 3\), got 3"):
        build("mlp")(maps()[:3])


class WithNeck(nn.Module):
    """Semantic FPN as it stands on a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = FPN(WIDTHS, 8, num_outs=4)
        self.head = FPNHead([8] * 4, 8, num_classes=5)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.head(self.neck(features))


def exported(module: nn.Module, features: list[torch.Tensor]) -> Any:
    """Exports with sizes that are free, and as far apart as a backbone of strides 4 to 32 makes them."""
    dim = torch.export.Dim
    shapes = [{2: dim(f"height{level}", min=2, max=999), 3: dim(f"width{level}", min=2, max=999)} for level in range(4)]
    return torch.export.export(module.eval(), (features,), dynamic_shapes=(shapes,))


@pytest.mark.parametrize("name", slow_except([*HEADS, "neck"], ["fpn", "neck"]))
def test_an_exported_head_takes_other_sizes(name: str):
    head: Any = WithNeck() if name == "neck" else trained(name)
    program = exported(head, maps(24, 40)).module()
    with torch.no_grad():
        for size in ((24, 40), (37, 29)):
            features = maps(*size, seed=5)
            torch.testing.assert_close(program(features), head.eval()(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_compiles_without_graph_breaks(name: str):
    head = trained(name)
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps()), head(maps()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEADS, "neck"])
def test_onnxruntime_returns_the_same_logits(name: str, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    head: Any = (WithNeck() if name == "neck" else trained(name)).eval()
    path = tmp_path / "head.onnx"
    program: Any = torch.onnx.export(exported(head, maps(24, 40)), dynamo=True, verbose=False)
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    with torch.no_grad():
        for size in ((24, 40), (37, 29)):
            features = maps(*size, seed=5)
            given = {f"features_{level}": one.numpy() for level, one in enumerate(features)}
            (found,) = session.run(None, {one: given[one] for one in names})
            torch.testing.assert_close(torch.from_numpy(found), head(features), rtol=1e-4, atol=1e-4)
