"""A Lightning module around a model of every family trains, saves and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from support.clients import import_client
from support.small_backbones import MODELS, small_backbone, small_images

lightning = import_client("lightning")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


class Classifier(lightning.LightningModule):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = small_backbone(name)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("name", list(MODELS))
def test_training_in_bfloat16_and_resuming(name: str, tmp_path: Path):
    data = torch.utils.data.TensorDataset(small_images(8), torch.arange(8) % 5)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    options: dict[str, Any] = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "precision": "bf16-mixed", "default_root_dir": tmp_path,
    }  # fmt: skip
    module = Classifier(name)
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = lightning.Trainer(max_epochs=1, **options)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert any(not torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))
    resumed = Classifier.load_from_checkpoint(tmp_path / "last.ckpt").eval()
    with torch.no_grad():
        torch.testing.assert_close(resumed.model(small_images()), module.model.eval()(small_images()))
    lightning.Trainer(max_epochs=2, **options).fit(module, loader, ckpt_path=tmp_path / "last.ckpt")
