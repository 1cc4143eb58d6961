"""The exponential moving average of the weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.zoo.training import EMAHook, WeightAverage, read_scalars, read_training_checkpoint
from support.training_toy import build, toy_config


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(2)


def test_the_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, decay=0.75)
    for value, expected in ((2.0, 1.25), (4.0, 1.9375)):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
        assert average.state_dict()["weight"].item() == expected


def test_warmup_forgets_the_first_weights_sooner():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, decay=0.9999, warmup=True)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average.update()
    assert average.state_dict()["weight"].item() == pytest.approx(0.9)
    average.update()
    assert average.state_dict()["weight"].item() == pytest.approx(1 - 0.1 * 2 / 11)
    average.updates = 10**9
    before = average.state_dict()["weight"].clone()
    average.update()
    assert (1 - average.state_dict()["weight"]).item() == pytest.approx((1 - before).item() * 0.9999, rel=1e-3)


def test_buffers_tied_weights_and_swapping():
    model: Any = Tied()
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.a.weight.add_(2.0)
        model.norm.running_mean.fill_(1.0)
        model.norm.num_batches_tracked.fill_(7)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average.update()
    averages = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    assert averages.keys() == own.keys()
    assert torch.equal(averages["a.weight"], own["a.weight"] - 1.0)
    assert torch.equal(averages["a.weight"], averages["b.weight"])
    assert averages["norm.running_mean"].tolist() == [0.5, 0.5]
    assert averages["norm.num_batches_tracked"].item() == 7

    def fail():
        with average.applied():
            assert all(torch.equal(tensor, averages[name]) for name, tensor in model.state_dict().items())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    # Restored although the block failed.
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, averages[name]) for name, tensor in average.state_dict().items())


def test_a_buffer_that_the_module_replaces_is_followed():
    model: Any = nn.Module()
    model.register_buffer("count", torch.zeros(()))
    average = WeightAverage(model, decay=0.5)
    model.count = model.count + 4.0
    average.update()
    assert average.state_dict()["count"].item() == 2.0


def test_another_models_average_is_refused():
    average = WeightAverage(nn.Linear(1, 1), 0.5)
    with pytest.raises(ValueError, match="bias"):
        average.load_state_dict({"weight": torch.zeros(1, 1)}, 0)
    with pytest.raises(ValueError, match="decay"):
        WeightAverage(nn.Linear(1, 1), 1.5)


def test_batches_without_a_step_do_not_count():
    hook = EMAHook(decay=0.5)
    hook.start(nn.Linear(1, 1))
    for stepped, updates in ((False, 0), (True, 1), (False, 1), (True, 2)):
        hook.after_train_iter(SimpleNamespace(optim_wrapper=SimpleNamespace(stepped=stepped)), 0)
        assert hook.average is not None
        assert hook.average.updates == updates


def test_evaluation_takes_the_average_and_the_checkpoint_both(tmp_path):
    config = toy_config(tmp_path, custom_hooks=[{"type": "EMAHook", "decay": 0.999, "evaluate_raw": True}])
    runner = build(config)
    seen = []
    step = runner.model.val_step
    runner.model.val_step = lambda batch: seen.append(runner.model.fc1.weight.detach().clone()) or step(batch)
    runner.train()
    saved = read_training_checkpoint(tmp_path / "epoch_3.pth")
    assert not torch.equal(saved["state_dict"]["fc1.weight"], saved["ema_state_dict"]["fc1.weight"])
    # Four batches with the averaged weights, then four with the model's own.
    assert torch.equal(seen[-8], saved["ema_state_dict"]["fc1.weight"])
    assert torch.equal(seen[-1], saved["state_dict"]["fc1.weight"])
    assert torch.equal(runner.model.fc1.weight, saved["state_dict"]["fc1.weight"])
    records = [record for record in read_scalars(tmp_path) if record["mode"] == "val"]
    assert all({"top1", "raw_top1"} <= record.keys() for record in records)


def test_averaging_can_begin_with_a_checkpoint_without_averages(tmp_path):
    build(toy_config(tmp_path, custom_hooks=[], train_cfg__max_epochs=1)).train()
    runner = build(toy_config(tmp_path, resume=True, train_cfg__max_epochs=2))
    runner.train()
    assert runner.ema.average.updates == 5
