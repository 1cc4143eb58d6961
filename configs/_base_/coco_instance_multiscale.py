"""COCO 2017 boxes and masks with DETR's multi-scale training, as used by Swin and its successors."""

_base_ = ["./coco_instance.py"]

train_dataloader = dict(dataset=dict(transform=dict(mode="detr")))
