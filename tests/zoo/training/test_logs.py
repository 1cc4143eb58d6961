"""Log lines, scalars, TensorBoard, progress bars."""

from __future__ import annotations

import io
import logging
import sys

from attnzoo.zoo.training import read_scalars
from support.training_toy import build, toy_config


def test_log_lines_scalars_and_tensorboard(tmp_path):
    config = toy_config(tmp_path, log_level="INFO", train_cfg__max_epochs=2)
    config["default_hooks"]["logger"] = {"interval": 2}
    build(config).train()
    (log,) = tmp_path.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "Epoch(train)" in line]
    # Every second iteration, and the last of an epoch.
    assert len(lines) == 2 * 3
    assert all(word in lines[0] for word in ("lr:", "eta:", "time:", "data_time:", "loss:", "grad_norm:"))
    records = read_scalars(tmp_path)
    assert [(record["mode"], record["iter"]) for record in records][:4] == [
        ("train", 2),
        ("train", 4),
        ("train", 5),
        ("val", 5),
    ]
    assert {"lr", "loss", "grad_norm", "time", "data_time"} <= records[0].keys()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"val/top1" in events.read_bytes()


def test_history_is_bounded(tmp_path, monkeypatch):
    from attnzoo.zoo.training import logs

    monkeypatch.setattr(logs, "HISTORY_LENGTH", 4)
    runner = build(toy_config(tmp_path))
    runner.train()
    assert len(runner.message_hub.get_scalar("train/loss").data[0]) <= 5


def test_a_progress_bar_on_a_terminal_and_lines_above_it(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1, log_level="INFO"))
    shown = io.StringIO()
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(shown)
    runner.train()
    assert "Epoch 1/1" in terminal.getvalue()
    assert "Evaluation" in terminal.getvalue()
    assert "Epoch(train)" in shown.getvalue()
