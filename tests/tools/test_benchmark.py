"""The benchmark of whole models measures equal computations, reports every one, and names what it cannot measure."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from attnzoo import create_model
from attnzoo.tools import benchmark
from attnzoo.tools.benchmark import find_models, main
from attnzoo.tools.benchmarking import model_baselines
from attnzoo.tools.benchmarking.model_baselines import flex_model, plain_model, randomize_statistics, timm_model

SMALL = ["--device", "cpu", "--batch-size", "1", "--repeats", "2", "--img-size", "32"]


def test_report_holds_both_ways(tmp_path, capsys):
    out = tmp_path / "report.json"
    assert main(["nat_mini", *SMALL, "--against", "plain", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    model = report["models"]["nat_mini"]
    assert model["img_size"] == [32, 32]
    ours, plain = model["rows"]["attnzoo"], model["rows"]["plain"]
    assert ours["params"] == plain["params"] == pytest.approx(19.984174)
    for row in (ours, plain):
        assert row["throughput"] == pytest.approx(1e3 / row["latency_ms"])
        assert row["busy_ms"] > 0
        assert row["peak_bytes"] > 0
    assert plain["ratio"] > 0
    assert "ratio" not in ours
    table = capsys.readouterr().out
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [["nat_mini", "attnzoo"], ["nat_mini", "plain"]]
    assert report["libraries"]["torch"] == torch.__version__.partition("+")[0]


def test_training_steps_and_channels_last(tmp_path):
    out = tmp_path / "report.json"
    assert main(["nat_mini", *SMALL, "--train", "--channels-last", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    (row,) = report["models"]["nat_mini"]["rows"].values()
    weights = 4 * 19_984_174
    # The gradients; memory of something else that is freed meanwhile is subtracted.
    assert row["peak_bytes"] > 0.9 * weights
    assert report["train"] is report["channels_last"] is True


def test_a_way_that_computes_something_else_is_not_timed(monkeypatch, capsys):
    def wrong(name: str, model: nn.Module) -> nn.Module:
        other = plain_model(name, model)
        with torch.no_grad():
            other.get_parameter("head.fc.weight").mul_(1.01)
        return other

    monkeypatch.setitem(benchmark.AGAINST, "plain", wrong)
    assert main(["nat_mini", *SMALL, "--against", "plain"]) == 1
    assert "give other logits" in capsys.readouterr().out


def test_one_that_fails_does_not_stop_the_others(tmp_path, capsys):
    out = tmp_path / "report.json"
    assert main(["dinat_mini", "nat_mini", *SMALL, "--against", "plain", "--out", str(out)]) == 1
    models = json.loads(out.read_text())["models"]
    assert "without dilation" in models["dinat_mini"]["rows"]["attnzoo"]["error"]
    assert models["nat_mini"]["rows"]["plain"]["ratio"] > 0
    assert "without dilation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nat_minni"], "Did you mean 'nat_mini'"),
        (["nat_mini.in2k"], "in1k"),
        (["zat_*"], "model pattern"),
        (["nat_mini", "--img-size", "1", "2", "3"], "--img-size takes one or two"),
        (["nat_mini", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["nat_mini", "--repeats", "0"], "--repeats must be at least 1"),
    ],
)
def test_mistakes_are_named(options, message, capsys):
    assert main([*options, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_patterns_and_names_find_each_model_once():
    assert find_models(["nat_mini", "nat_[mt]*"]) == ["nat_mini", "nat_tiny"]


@pytest.mark.parametrize("name", ["nat_mini", "biformer_tiny", "van_b0", "agent_deit_tiny", "agent_swin_tiny"])
@torch.no_grad()
def test_plain_ways_compute_the_same(name: str):
    model = create_model(name).eval()
    randomize_statistics(model)
    plain = plain_model(name, model)
    kinds = {type(module) for module in plain.modules()} - {type(module) for module in model.modules()}
    assert any(kind.__module__ == model_baselines.__name__ for kind in kinds)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(images), model(images), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_timms_model_gets_the_same_weights():
    model = create_model("davit_tiny").eval()
    other = timm_model("davit_tiny", model)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(images), model(images), rtol=1e-3, atol=1e-4)


def test_what_there_is_nothing_to_measure_against():
    model = create_model("vitrpb_small")
    for name in ("vitrpb_small", "halonet_h1"):  # timm's halonet_h1 is another model than the paper's
        with pytest.raises(ValueError, match=f"timm has no '{name}'"):
            timm_model(name, model)
    with pytest.raises(ValueError, match="'vitrpb_small' has no neighborhood attention"):
        flex_model("vitrpb_small", model)


def test_statistics_are_no_longer_ones():
    norm = nn.BatchNorm2d(8)
    randomize_statistics(norm)
    assert norm.running_var is not None
    for tensor in (norm.weight, norm.running_var):
        assert 0.75 <= tensor.min() < tensor.max() <= 1.25
    assert model_baselines.PLAIN
