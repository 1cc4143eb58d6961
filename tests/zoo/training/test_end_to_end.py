"""The real task, data and model: trained, stopped, resumed, evaluated, and loaded by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo.zoo.training import Preempted, read_training_checkpoint
from support.training_toy import build, run_in_child, same

NAT = {
    "depths": (1, 1),
    "embed_dims": (16, 32),
    "num_heads": (1, 2),
    "kernel_size": 3,
    "stem_stride": 2,
    "num_classes": 2,
    "drop_path_rate": 0.3,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Dark and light images of 16x16, 12 for training and 6 for evaluation."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, level in (("dark", 60), ("light", 190)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                noise = generator.integers(-50, 50, (16, 16, 3))
                Image.fromarray((level + noise).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def config(images, work_dir, **changes):
    def loader(split, sampler, transform, **options):
        return {
            "batch_size": 4,
            "dataset": {
                "type": "ImageClassificationDataset",
                "root": str(images),
                "split": split,
                "transform": {"size": 16, **transform},
            },
            "sampler": {"type": sampler},
            "collate_fn": {"type": "classification_collate"},
            **options,
        }

    evaluation = loader("val", "EvaluationSampler", {"type": "Evaluation", "crop_pct": 1.0})
    return {
        "model": {
            "type": "Classifier",
            "backbone": {"type": "nat_mini", **NAT},
            "loss": {"type": "SoftTargetCrossEntropy"},
            "mixing": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1},
            "data_preprocessor": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        },
        "work_dir": str(work_dir),
        "train_dataloader": loader(
            "train", "EpochSampler", {"type": "SmallImageTrain", "padding": 2}, num_workers=2, persistent_workers=True
        ),
        "val_dataloader": evaluation,
        "test_dataloader": evaluation,
        "val_evaluator": {"type": "Accuracy", "topk": (1,)},
        "test_evaluator": {"type": "Accuracy", "topk": (1,)},
        "train_cfg": {"type": "EpochTrainLoop", "max_epochs": 8},
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "optim_wrapper": {
            "optimizer": {"type": "AdamW", "lr": 3e-3, "weight_decay": 0.05},
            "clip_grad": {"max_norm": 5.0},
            "paramwise_cfg": {"layer_decay_rate": 0.9},
        },
        "param_scheduler": {"type": "WarmupCosine", "warmup_epochs": 1, "min_lr": 1e-5, "cooldown_epochs": 1},
        "custom_hooks": [{"type": "EMAHook", "decay": 0.8}, {"type": "BrokenImagesHook"}],
        "default_hooks": {"logger": {"interval": 1, "tensorboard": False}, "checkpoint": {"save_best": "top1"}},
        "log_level": "WARNING",
        **changes,
    }


def test_trained_stopped_resumed_evaluated_and_loaded(images, tmp_path):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    runner = build(config(images, uninterrupted))
    runner.train()
    assert runner.results()["best"]["top1"]["value"] >= 5 / 6 * 100

    stopping = config(images, resumed)
    stopping["custom_hooks"] = [*stopping["custom_hooks"], {"type": "FaultHook", "at": 10, "what": "term"}]
    with pytest.raises(Preempted):
        build(stopping).train()
    killed = config(images, resumed, resume=True)
    killed["custom_hooks"] = [*killed["custom_hooks"], {"type": "FaultHook", "at": 16, "what": "kill"}]
    assert run_in_child(lambda: build(killed).train()).wait() == -9
    build(config(images, resumed, resume=True)).train()
    ours, theirs = (
        read_training_checkpoint(resumed / "epoch_8.pth"),
        read_training_checkpoint(uninterrupted / "epoch_8.pth"),
    )
    del ours["meta"]["time"], theirs["meta"]["time"]
    assert not same(ours, theirs)

    best = str(uninterrupted / "best_top1.pth")
    tester = build(config(images, tmp_path / "test", load_from=best))
    assert tester.test()["top1"] == pytest.approx(runner.results()["best"]["top1"]["value"])

    saved = read_training_checkpoint(best)
    model = attnzoo.create_model("nat_mini", checkpoint_path=best, **NAT)
    weight = model.state_dict()["head.fc.weight"]
    assert torch.equal(weight, saved["ema_state_dict"]["backbone.head.fc.weight"])


ONE_EPOCH = {"train_cfg": {"type": "EpochTrainLoop", "max_epochs": 1}, "param_scheduler": None}


def test_channels_last(images, tmp_path):
    runner = build(config(images, tmp_path, channels_last=True, **ONE_EPOCH))
    runner.train()
    convolutions = [p for p in runner.model.parameters() if p.ndim == 4 and p.shape[2] > 1]
    assert convolutions
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)


@pytest.mark.slow
def test_a_compiled_backbone_trains_equally_and_keeps_its_names(images, tmp_path):
    build(config(images, tmp_path / "plain", **ONE_EPOCH)).train()
    runner = build(config(images, tmp_path / "compiled", compile={"backend": "aot_eager"}, **ONE_EPOCH))
    runner.train()
    states = [read_training_checkpoint(tmp_path / name / "epoch_1.pth")["state_dict"] for name in ("plain", "compiled")]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=1e-5)
