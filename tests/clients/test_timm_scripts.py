"""What timm's validate.py and train.py do, which are not in timm's wheel: data, loader, model and metrics of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import timm.optim
import timm.utils
import torch
from torch import nn

import attnzoo
from attnzoo.zoo.preprocessing import Preprocessing
from support.tiny_classifier import BACKBONE, COLORS, write_images

pytestmark = pytest.mark.slow
TIMM: Any = timm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timm")
    write_images(root / "images", per_class=8, side=40)
    return root / "images"


def loader_of(model: nn.Module, data: Path, training: bool) -> Any:
    config = TIMM.data.resolve_data_config({}, model=model, use_test_size=not training)
    dataset = TIMM.data.create_dataset("", root=str(data), split="train" if training else "validation")
    return TIMM.data.create_loader(
        dataset,
        batch_size=8,
        is_training=training,
        num_workers=0,
        use_prefetcher=False,
        device=torch.device("cpu"),
        **config,
    )


def validate(model: nn.Module, loader: Any) -> tuple[float, torch.Tensor]:
    """Returns the top-1 accuracy in percent, and the scores of all images."""
    top1, scores = TIMM.utils.AverageMeter(), []
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            top1.update(TIMM.utils.accuracy(output, target)[0].item(), len(images))
            scores.append(output.softmax(-1))
    return top1.avg, torch.cat(scores)


def test_trained_saved_and_validated(data: Path, tmp_path: Path) -> None:
    attnzoo.register_in_timm()
    torch.manual_seed(0)
    model = TIMM.create_model("attnzoo_nat_mini", num_classes=3, **BACKBONE)
    images = Preprocessing(mean=(0.4, 0.3, 0.2), std=(0.3, 0.2, 0.1), input_size=(3, 32, 32), crop_pct=0.8)
    images.write_to(model)
    optimizer = TIMM.optim.create_optimizer_v2(model, opt="adamw", lr=2e-3)
    loss = nn.CrossEntropyLoss()
    model.train()
    for _ in range(4):
        for batch, target in loader_of(model, data, training=True):
            optimizer.zero_grad()
            loss(model(batch), target).backward()
            optimizer.step()
    accuracy, scores = validate(model, loader_of(model, data, training=False))
    assert accuracy > 60

    # timm's own functions save it in the form that timm, and therefore attnzoo, reads.
    TIMM.models.save_for_hf(model, tmp_path / "timm", safe_serialization=True, model_config={"label_names": [*COLORS]})
    ours: Any = attnzoo.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    # Ours is opened by timm.
    folder = attnzoo.save_pretrained(ours, tmp_path / "ours")
    theirs = TIMM.create_model(f"local-dir:{folder}", pretrained=True)
    files = [str(path) for path in sorted(data.rglob("*.png"))]
    for other in (ours, theirs):
        assert validate(other, loader_of(other, data, training=False)) == (accuracy, pytest.approx(scores))
        predicted = torch.stack([result.scores for result in attnzoo.Predictor(other)(files)])
        assert other.pretrained_cfg["label_names"] == tuple(COLORS)
        assert (predicted.sort(dim=0).values - scores.sort(dim=0).values).abs().max() < 1e-5
