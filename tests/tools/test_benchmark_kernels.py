"""Tests of tools/benchmark_kernels.py."""

from __future__ import annotations

import json

import pytest
import torch

from attnzoo.tools.benchmark_kernels import main
from attnzoo.tools.benchmarking import operations
from attnzoo.tools.benchmarking.attention_baselines import UnfoldAttention


def test_report_has_every_implementation(tmp_path, capsys):
    out = tmp_path / "report.json"
    options = ["--sizes", "7", "9", "--batch-size", "1", "--repeats", "2", "--dim", "4", "--out", str(out)]
    assert main(["--device", "cpu", *options]) == 0
    report = json.loads(out.read_text())
    assert [(one["size"], one["heads"]) for one in report["maps"]] == [(7, 16), (9, 2)]
    names = {"attnzoo torch", "attnzoo torch, no bias", "unfold + einsum", "dense SDPA, mask"}
    for one in report["maps"]:
        assert set(one["implementations"]) == names | {"plain copy"}
        assert all(row["forward_ms"] > 0 and row["train_ms"] > 0 for row in one["implementations"].values())
        assert all(
            one["implementations"][name]["train_bytes"] >= one["implementations"][name]["forward_bytes"] > 0
            for name in names
        )
    table = capsys.readouterr().out
    assert all(table.count(name) >= 2 for name in names)
    assert torch.__version__ in table


def test_implementation_with_wrong_results_is_not_timed(monkeypatch, capsys):
    class Wrong(UnfoldAttention):
        def __call__(self, query, key, value, rpb):
            return super().__call__(query, key, value, rpb) * 1.01

    monkeypatch.setattr(operations, "UnfoldAttention", Wrong)
    assert main(["--device", "cpu", "--sizes", "9", "--batch-size", "1", "--repeats", "1", "--dim", "4"]) == 1
    captured = capsys.readouterr()
    line = next(line for line in captured.out.splitlines() if line.startswith("unfold + einsum"))
    assert line.split()[-1] == "disagrees"
    assert "differ from the reference" in captured.err


def test_report_for_routing(tmp_path):
    out = tmp_path / "report.json"
    options = ["--sizes", "6", "9x3", "--num-regions", "3", "--batch-size", "1", "--repeats", "1", "--dim", "4"]
    assert main(["--operation", "routing", "--device", "cpu", *options, "--topk", "2", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["operation"] == "routing"
    assert [(one["size"], one["heads"], one["topk"]) for one in report["maps"]] == [(6, 2, 2), ("9x3", 2, 2)]
    for one in report["maps"]:
        assert set(one["implementations"]) == {"attnzoo torch", "official gather", "index_select + SDPA", "plain copy"}
        assert all(row["forward_ms"] > 0 and row["train_ms"] > 0 for row in one["implementations"].values())


@pytest.mark.parametrize(
    ("operation", "options", "names"),
    [
        ("window", ["--window-size", "3", "--sizes", "6", "9x3"], {"attnzoo torch", "partition + SDPA"}),
        ("halo", ["--block-size", "4", "--sizes", "4", "8x12"], {"attnzoo torch", "unfold + einsum"}),
    ],
)
def test_report_for_windows_and_halos(operation, options, names, tmp_path):
    out = tmp_path / "report.json"
    options = [*options, "--batch-size", "2", "--repeats", "1", "--dim", "20", "--out", str(out)]
    assert main(["--operation", operation, "--device", "cpu", *options]) == 0
    for one in json.loads(out.read_text())["maps"]:
        assert set(one["implementations"]) == names | {"plain copy"}
        assert all(row["forward_ms"] > 0 and row["train_ms"] > 0 for row in one["implementations"].values())


def test_user_errors(capsys):
    assert main(["--device", "cpu", "--sizes", "5", "--kernel-size", "7", "--repeats", "1"]) == 2
    assert "must not exceed the map" in capsys.readouterr().err
