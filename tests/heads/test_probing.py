"""Probes: official numbers, maps and tokens, initial values, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads.probing import EfficientProbe, LinearProbe
from support import parity

PACKS = ("dim384_q16_d2", "dim768_q32")


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PACKS)
def test_efficient_probing_is_the_official_one(name: str):
    pack, golden = parity.load_pack("efficient_probing", name)
    config = pack["config"]
    probe = EfficientProbe(config["dim"], config["classes"], config["num_queries"], config["d_out"]).eval()
    probe.load_state_dict(parity.filled_state_dict(pack), strict=True)
    assert sum(parameter.numel() for parameter in probe.parameters()) == pack["params"]
    for case in pack["cases"]:
        tokens = parity.image(case["shape"], case["seed"])
        with torch.no_grad():
            outputs = {"pooled": probe[0](tokens), "logits": probe(tokens)}
        for key, shape in case["outputs"].items():
            assert list(outputs[key].shape) == shape
            assert parity.relative_error(outputs[key], golden[f"{case['name']}/{key}"]) <= parity.tolerance(pack)


def test_efficient_probing_is_what_its_formula_says():
    torch.manual_seed(0)
    probe: Any = EfficientProbe(12, 5, num_queries=3, d_out=2).eval()
    tokens = 10 * features(2, 7, 12)
    pooled = []
    values = (tokens @ probe[0].v.weight.T).reshape(2, 7, 3, 2)
    for query in range(3):
        similarity = (50 * tokens @ probe[0].cls_token[0, query]) / 12**0.5
        pooled.append((similarity.softmax(1)[..., None] * values[:, :, query]).sum(1))
    expected = torch.cat(pooled, 1)
    with torch.no_grad():
        probe[0].cls_token *= 50
    torch.testing.assert_close(probe[0](tokens), expected)
    normalised = expected / (1 + 1e-6) ** 0.5
    torch.testing.assert_close(probe(tokens), F.linear(normalised, probe[2].weight, probe[2].bias))


@pytest.mark.parametrize("kind", [LinearProbe, EfficientProbe])
def test_a_map_is_its_tokens(kind):
    probe = kind(64, 5).eval()
    x = features(2, 64, 3, 4)
    tokens = torch.stack([x[:, :, row, column] for row in range(3) for column in range(4)], 1)
    torch.testing.assert_close(probe(x), probe(tokens))
    assert probe(x).shape == (2, 5)


def test_linear_probing_averages_normalises_and_classifies():
    probe: Any = LinearProbe(6, 5).train()
    x = 3 + 2 * features(8, 6, 3, 4)
    mean = x.mean((2, 3))
    normalised = (mean - mean.mean(0)) / (mean.var(0, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(probe(x), F.linear(normalised, probe[1].weight, probe[1].bias))
    assert set(probe.state_dict()) == {
        *(f"0.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        "1.weight",
        "1.bias",
    }


def test_initial_values():
    torch.manual_seed(0)
    efficient: Any = EfficientProbe(512, 100)
    linear: Any = LinearProbe(512, 100)
    assert efficient[0].cls_token.std().item() == pytest.approx(0.02, rel=0.05)
    assert efficient[0].v.weight.std().item() == pytest.approx((1 / 3 / 512) ** 0.5, rel=0.05)
    assert linear[1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not linear[1].bias.any()


@pytest.mark.parametrize("kind", [LinearProbe, EfficientProbe])
def test_probes_export_for_maps_of_any_size(kind):
    probe = kind(64, 5).eval()
    dim = torch.export.Dim
    shapes = ({2: dim("height", min=2, max=999), 3: dim("width", min=2, max=999)},)
    program = torch.export.export(probe, (features(1, 64, 4, 5),), dynamic_shapes=shapes).module()
    for size in ((4, 5), (9, 2)):
        x = features(1, 64, *size, seed=1)
        torch.testing.assert_close(program(x), probe(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EfficientProbe(64, 5, num_queries=5), "in_channels=64, num_queries=5 and d_out=1"),
        (lambda: EfficientProbe(64, 5, num_queries=32, d_out=4), "num_queries=32 and d_out=4"),
        (lambda: EfficientProbe(64, 0), "num_classes must be >= 1, got 0"),
        (lambda: LinearProbe(64, 0), "num_classes must be >= 1, got 0"),
        (lambda: LinearProbe(64, 5)(torch.zeros(2, 64)), r"got shape \(2, 64\)"),
    ],
)
def test_invalid_arguments_raise(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
