"""Parts of models that can be exported, and the names of their outputs."""

from __future__ import annotations

import pytest
import torch

from attnzoo.zoo.export import ExportError, exportable
from attnzoo.zoo.tasks import Classifier, ExportPart

from .models import DENSE, MASK_RCNN, build_task, tiny


def test_parts_of_tasks():
    images = torch.randn(2, 3, 64, 64)
    two_stage, segmentor = build_task(MASK_RCNN), build_task(DENSE["semantic_fpn"])
    with pytest.raises(ExportError, match=r"non-maximum suppression.*part='rpn'.*part='neck'.*part='backbone'"):
        exportable(two_stage)
    levels = ["cls_scores0", "cls_scores1", "bbox_preds0", "bbox_preds1"]
    assert exportable(two_stage, "rpn").output_names(images) == levels
    assert exportable(two_stage, "neck").output_names(images) == ["map0", "map1"]
    assert exportable(two_stage, "backbone").output_names(images) == ["map0", "map1"]
    (logits,) = exportable(segmentor)(images)
    torch.testing.assert_close(logits, segmentor.decode_head(segmentor.features(images)))
    with pytest.raises(ExportError, match=r"Segmentor has no 'rpn'\. These parts can be exported: .*part='whole'"):
        exportable(segmentor, "rpn")
    with pytest.raises(ValueError, match=r"Unknown part 'nek'\. Did you mean 'neck'"):
        exportable(segmentor, "nek")
    assert exportable(tiny("van", num_classes=0)).output_names(images) == ["features"]
    with pytest.raises(ExportError, match="is a backbone and has no 'neck'"):
        exportable(tiny("van"), "neck")
    segmentor.neck = None
    with pytest.raises(ExportError, match="has no 'neck'"):
        exportable(segmentor, "neck")


def test_a_task_can_define_its_own_parts():
    class Pooled(Classifier):
        def export_parts(self) -> dict[str, ExportPart]:
            run = lambda task, image: task.backbone.forward_features(image).mean((2, 3))  # noqa: E731
            return {**super().export_parts(), "embedding": ExportPart(run, ("embedding",), "pooled features")}

    task = Pooled(tiny("metaformer"))
    images = torch.randn(2, 3, 32, 32)
    assert exportable(task).output_names(images) == ["logits"]
    (embedding,) = exportable(task, "embedding")(images)
    torch.testing.assert_close(embedding, task.backbone.forward_features(images).mean((2, 3)))


def test_mean_and_std_belong_together():
    with pytest.raises(ValueError, match="pass both or neither"):
        exportable(tiny("van"), mean=(0.5, 0.5, 0.5))
