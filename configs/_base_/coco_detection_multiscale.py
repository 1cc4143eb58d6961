"""COCO 2017 boxes with DETR's multi-scale training, as used by Swin and its successors."""

_base_ = ["./coco_detection.py"]

train_dataloader = dict(dataset=dict(transform=dict(mode="detr")))
