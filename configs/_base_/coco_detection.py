"""COCO 2017 boxes: images resized to 1333x800 and randomly flipped."""

_base_ = ["./coco_instance.py"]

train_dataloader = dict(dataset=dict(with_masks=False))
val_dataloader = dict(dataset=dict(with_masks=False))

val_evaluator = dict(iou_types=("bbox",))
