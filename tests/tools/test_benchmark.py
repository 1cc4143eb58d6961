"""Tests of tools/benchmark.py: reports, user errors, and models that cannot be measured."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from attnzoo.tools.benchmark import find_models, main
from attnzoo.tools.benchmarking import models as measuring
from attnzoo.tools.benchmarking.model_baselines import plain_model

SMALL = ["--device", "cpu", "--batch-size", "1", "--repeats", "2", "--img-size", "32"]


def test_report_has_a_row_per_implementation(tmp_path, capsys):
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
    # The gradients, minus memory that is freed in the meantime.
    assert row["peak_bytes"] > 0.9 * weights
    assert report["train"] is report["channels_last"] is True


def test_model_with_different_logits_is_not_timed(monkeypatch, capsys):
    def altered(name: str, model: nn.Module) -> nn.Module:
        other = plain_model(name, model)
        with torch.no_grad():
            other.get_parameter("head.fc.weight").mul_(1.01)
        return other

    monkeypatch.setitem(measuring.BASELINES, "plain", altered)
    assert main(["nat_mini", *SMALL, "--against", "plain"]) == 1
    assert "The logits of plain differ" in capsys.readouterr().out


def test_failing_model_does_not_stop_the_others(tmp_path, capsys):
    out = tmp_path / "report.json"
    assert main(["dinat_mini", "nat_mini", *SMALL, "--against", "plain", "--out", str(out)]) == 1
    models = json.loads(out.read_text())["models"]
    assert "has no dilation" in models["dinat_mini"]["rows"]["attnzoo"]["error"]
    assert models["nat_mini"]["rows"]["plain"]["ratio"] > 0
    assert "has no dilation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nat_minni"], "Did you mean 'nat_mini'"),
        (["nat_mini.in2k"], "in1k"),
        (["zat_*"], "model pattern"),
        (["nat_mini", "--img-size", "1", "2", "3"], "--img-size takes one or two"),
        (["nat_mini", "--batch-size", "0"], "--batch-size must be >= 1, got 0"),
        (["nat_mini", "--repeats", "0"], "--repeats must be >= 1, got 0"),
    ],
)
def test_user_errors(options, message, capsys):
    assert main([*options, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_names_and_patterns_select_each_model_once():
    assert find_models(["nat_mini", "nat_[mt]*"]) == ["nat_mini", "nat_tiny"]
