"""Learning rates scaled to the batch size."""

from __future__ import annotations

import pytest

from attnzoo.zoo.training.auto_scale import lr_factor, scale_schedule
from support.training_toy import build, toy_config


def test_factors_follow_the_rule():
    options = {"enable": True, "base_batch_size": 64}
    assert lr_factor(options, 16) == 0.25
    assert lr_factor({**options, "rule": "sqrt"}, 16) == 0.5
    assert lr_factor({**options, "enable": False}, 16) == lr_factor(None, 16) == 1.0
    for wrong, message in (
        ({"enable": True}, "base_batch_size"),
        ({**options, "base": 3}, "auto_scale_lr has no key 'base'"),
        ({**options, "rule": "liner"}, "Did you mean 'linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            lr_factor(wrong, 16)


def test_relative_rates_of_schedules_are_not_scaled():
    given = {"type": "CosineAnnealingLR", "eta_min": 0.1, "eta_min_ratio": 0.5, "T_max": 4}
    scaled, messages = scale_schedule(given, 0.5)
    assert scaled == {**given, "eta_min": 0.05}
    assert "eta_min 0.1 becomes 0.05" in messages
    assert scale_schedule(given, 1.0) == (given, "")


def test_training_scales_all_rates_and_logs_it(tmp_path, monkeypatch):
    config = toy_config(
        tmp_path,
        auto_scale_lr={"enable": True, "base_batch_size": 16},
        optim_wrapper__accumulative_counts=2,
        train_cfg__max_epochs=1,
    )
    runner = build(config)
    messages = []
    monkeypatch.setattr(runner.logger, "info", messages.append)
    runner.train()
    # 4 images x 2 accumulated: half of the recipe.
    assert runner.optim_wrapper.optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.025)
    (schedule,) = runner.param_schedulers
    assert (schedule.warmup_lr, schedule.min_lr) == pytest.approx((5e-5, 5e-4))
    assert any("the batch size is 8" in line and "multiplied by 0.5" in line for line in messages)
