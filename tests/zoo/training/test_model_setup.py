"""Preparing a model: memory format, SyncBatchNorm, distributed wrapper; compilation is in test_end_to_end.py."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from attnzoo.zoo.training.distributed import init_distributed
from attnzoo.zoo.training.model_setup import prepare_model, unwrap_model
from support.training_toy import build, run_ranks, toy_config


def test_channels_last_changes_the_layout_of_kernels():
    for cfg in ({"channels_last": True}, {}):
        model = nn.Conv2d(3, 8, 3)
        prepare_model(model, cfg, distributed=False)
        assert model.weight.is_contiguous(memory_format=torch.channels_last) == bool(cfg)


def test_sync_batch_norm_of_a_single_process_becomes_plain():
    model = prepare_model(nn.Sequential(nn.SyncBatchNorm(4)), {"sync_bn": True}, distributed=False)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert unwrap_model(model) is model


def test_distributed_models_are_wrapped_once_and_unwrapped():
    def wrap(rank):
        init_distributed("pytorch")
        model = nn.Linear(2, 2)
        wrapped = prepare_model(model, {"find_unused_parameters": True}, distributed=True)
        assert isinstance(wrapped, MMDistributedDataParallel)
        assert wrapped.find_unused_parameters
        assert prepare_model(wrapped, {}, distributed=True) is wrapped
        assert unwrap_model(wrapped) is model

    assert run_ranks(wrap) == [0, 0]


def test_sync_bn_needs_gpus(tmp_path):
    def build_it(rank):
        with pytest.raises(ValueError, match="sync_bn needs GPUs"):
            build(toy_config(tmp_path, launcher="pytorch", sync_bn=True))

    assert run_ranks(build_it) == [0, 0]
