"""Evaluation after training, in mixed precision, of averaged or raw weights."""

from __future__ import annotations

import pytest
import torch

from support.training_toy import build, toy_config


def test_test_loop_and_weights_to_start_from(tmp_path):
    build(toy_config(tmp_path / "a", train_cfg__max_epochs=1)).train()
    config = toy_config(tmp_path / "b", load_from=str(tmp_path / "a" / "epoch_1.pth"))
    for part in ("dataloader", "evaluator", "cfg"):
        config[f"test_{part}"] = config[f"val_{part}"]
    config["test_cfg"] = {"type": "TestLoop", "amp_dtype": "bfloat16"}
    runner = build(config)
    assert runner.test() == runner.last_metrics
    assert runner.last_metrics["count"] == 13.0
    saved = torch.load(tmp_path / "a" / "epoch_1.pth", weights_only=True)
    assert torch.equal(runner.model.fc1.weight, saved["ema_state_dict"]["fc1.weight"])
    runner.load_checkpoint(str(tmp_path / "a" / "epoch_1.pth"), use_ema=False)
    assert torch.equal(runner.model.fc1.weight, saved["state_dict"]["fc1.weight"])
    assert not (tmp_path / "b" / "config.py").exists()
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        build({**config, "test_cfg": {"type": "TestLoop", "amp_dtype": "bfloat"}}).test()
