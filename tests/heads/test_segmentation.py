"""Heads of semantic segmentation: official numbers, losses, odd sizes, initial values, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.heads.fpn import FPN
from attnzoo.heads.segmentation import FCNHead, FPNHead, MLPHead, UPerHead
from attnzoo.heads.segmentation.pixel_losses import pixel_accuracy, pixel_cross_entropy
from attnzoo.heads.segmentation.uper_head import AdaptivePooling
from support import head_packs, segmentation_packs

CLASSES = {"FPNHead": FPNHead, "UPerHead": UPerHead, "FCNHead": FCNHead}
CASES = [(name, case) for name in segmentation_packs.PACKS for case in head_packs.case_names(name, "logits", "loss")]
WIDTHS = (4, 6, 8, 10)


def maps(height: int = 16, width: int = 24, count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Feature maps at strides of 4 to 32, sizes rounded up."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(4)]
    return [torch.randn(count, c, *size, generator=generator) for c, size in zip(WIDTHS, sizes, strict=True)]


def small_heads() -> dict[str, Callable[..., Any]]:
    """Makes a small head of each kind, by name."""
    return {
        "fpn": lambda **options: FPNHead([*WIDTHS], 8, num_classes=5, **options),
        "uper": lambda **options: UPerHead([*WIDTHS], 8, num_classes=5, **options),
        "fcn": lambda **options: FCNHead(8, 8, num_classes=5, in_index=2, **options),
        "mlp": lambda **options: MLPHead([*WIDTHS], 8, num_classes=5, **options),
    }


HEADS = tuple(small_heads())


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    return small_heads()[name](**options)


def trained(name: str, **options: Any) -> Any:
    """A head in eval mode whose statistics, weights and biases are all different."""
    head = build(name, **options)
    generator = torch.Generator().manual_seed(2)
    for key, value in head.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.2 * noise.abs() if "running_var" in key else 0.3 * noise)
    return head.eval()


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
def test_heads_are_the_official_ones(name: str, case: str, official: Callable[[str], dict[str, Any]]):
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


def convolved(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    """Convolution, BatchNorm in eval mode, ReLU, from a state dict."""
    x = F.conv2d(x, state[f"{name}.conv.weight"], **options)
    shape = (1, -1, 1, 1)
    mean, var = (state[f"{name}.bn.running_{kind}"].view(shape) for kind in ("mean", "var"))
    weight, bias = (state[f"{name}.bn.{kind}"].view(shape) for kind in ("weight", "bias"))
    return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)


def classified(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, state["conv_seg.weight"], state["conv_seg.bias"])


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_mlp_head_is_what_its_formula_says(align_corners: bool):
    head = trained("mlp", align_corners=align_corners)
    features = maps(13, 17)
    state = head.state_dict()
    levels = [
        F.interpolate(convolved(state, f"convs.{level}", one), (13, 17), mode="bilinear", align_corners=align_corners)
        for level, one in enumerate(features)
    ]
    expected = classified(state, convolved(state, "fusion_conv", torch.cat(levels, 1)))
    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)
    assert {name.split(".")[0] for name in state} == {"convs", "fusion_conv", "conv_seg"}


def test_the_fcn_head_sees_its_input_again_and_dilates():
    head = trained("fcn", num_convs=2, dilation=2, concat_input=True)
    x = maps()[2]
    state = head.state_dict()
    made = x
    for number in range(2):
        made = convolved(state, f"convs.{number}", made, padding=2, dilation=2)
    expected = classified(state, convolved(state, "conv_cat", torch.cat([x, made], 1), padding=1))
    torch.testing.assert_close(head(maps()), expected, rtol=1e-4, atol=1e-5)


def test_the_fcn_head_without_convolutions_is_its_classifier():
    head = trained("fcn", num_convs=0, concat_input=False)
    torch.testing.assert_close(head(maps()), classified(head.state_dict(), maps()[2]))


def test_the_last_map_is_the_fcn_heads_own_choice():
    head = FCNHead(10, 8, num_classes=5).eval()
    assert head(maps()).shape[-2:] == maps()[-1].shape[-2:]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 11), (16, 3), (31, 40)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_is_torchs_adaptive_pooling(bins: int, size: tuple[int, int]):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pooled, expected = AdaptivePooling(bins)(x), F.adaptive_avg_pool2d(x, bins)
    torch.testing.assert_close(pooled, expected)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((one * weight).sum(), x)[0] for one in (pooled, expected)]
    torch.testing.assert_close(*gradients)


def test_pooling_in_half_precision_neither_overflows_nor_drifts():
    x = 200 + torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    for bins in (1, 3, 6):
        pooled = AdaptivePooling(bins)(x.half()).float()
        torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x.half().float(), bins), rtol=2e-3, atol=0)


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
def test_group_normalisation_and_none(name: str):
    options: dict[str, Any] = {"norm": "GN"}
    wide = {"fpn": FPNHead, "uper": UPerHead, "mlp": MLPHead}
    head = FCNHead(8, 32, in_index=2, num_classes=5, **options) if name == "fcn" else None
    head = head or wide[name]([*WIDTHS], 32, num_classes=5, **options)
    assert any(isinstance(module, nn.GroupNorm) for module in head.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in head.modules())
    head(maps())
    bare = build(name, norm=None)
    assert all(module.bias is not None for module in bare.modules() if isinstance(module, nn.Conv2d))


# Losses


def random_labels(shape: tuple[int, ...], ignored: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 5, shape, generator=generator)
    return labels.masked_fill(torch.rand(shape, generator=generator) < ignored, 255)


def test_losses_are_means_of_torchs_cross_entropy():
    logits = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = random_labels((2, 7, 9))
    counted = int((labels != 255).sum())
    assert 0 < counted < labels.numel()
    mean = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, avg_non_ignore=True), mean)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), mean * counted / labels.numel())
    right = (logits.argmax(1) == labels)[labels != 255].float().mean() * 100
    torch.testing.assert_close(pixel_accuracy(logits, labels), right)


def test_class_weights_weigh_the_sum_and_the_divisor():
    logits = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    labels = random_labels((2, 7, 9))
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])
    counted = labels != 255
    weighted = F.cross_entropy(logits, labels, weight, ignore_index=255)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, weight, avg_non_ignore=True), weighted)
    total = weight[labels[counted]].sum()
    expected = weighted * total / (total + (~counted).sum())
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, weight), expected)
    ones = torch.ones(5)
    for average in (False, True):
        plain = pixel_cross_entropy(logits, labels, avg_non_ignore=average)
        torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, ones, average), plain)


def test_a_heads_class_weights_reach_its_loss_and_no_checkpoint():
    plain, weighted = build("fpn"), build("fpn", class_weight=[1.0, 0.0, 0.0, 0.0, 0.0], avg_non_ignore=True)
    weighted.load_state_dict(plain.state_dict(), strict=True)
    labels = random_labels((2, 32, 48))
    only_first = torch.where(labels == 0, 0, 255)
    plain.avg_non_ignore = True
    expected = plain.eval().losses(maps(), only_first)["loss_ce"]
    torch.testing.assert_close(weighted.eval().losses(maps(), labels)["loss_ce"], expected)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0] * 5])
def test_a_batch_without_a_pixel_that_counts_teaches_nothing(average: bool, weights: list[float] | None):
    head = build("uper", avg_non_ignore=average, class_weight=weights)
    losses = head.losses(maps(), torch.full((2, 64, 96), 255))
    assert losses["loss_ce"].item() == losses["acc_seg"].item() == 0
    losses["loss_ce"].backward()
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


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


@pytest.mark.parametrize("wrong", [5, 254, -1])
def test_labels_out_of_range_raise(wrong: int):
    labels = random_labels((2, 16, 24))
    labels[1, 3, 4] = wrong
    with pytest.raises(
        ValueError, match=rf"contains {wrong}, but labels must be 0 to 4 \(num_classes=5\) or 255 \(ignored\)"
    ):
        build("fpn").losses(maps(), labels)


# Building


def test_the_classifier_of_a_head_trained_from_scratch_begins_wider():
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


def test_dropout_leaves_out_whole_channels_in_training_alone():
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


# Out of eager mode


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


@pytest.mark.parametrize("name", [*HEADS, "neck"])
def test_an_exported_head_takes_other_sizes(name: str):
    head: Any = WithNeck() if name == "neck" else trained(name)
    program = exported(head, maps(24, 40)).module()
    with torch.no_grad():
        for size in ((24, 40), (37, 29)):
            features = maps(*size, seed=5)
            torch.testing.assert_close(program(features), head.eval()(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_compiles_whole(name: str):
    head = trained(name)
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps()), head(maps()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEADS, "neck"])
def test_onnx_runtime_gives_the_same_logits(name: str, tmp_path):
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
