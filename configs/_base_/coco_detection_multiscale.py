"""COCO 2017, boxes alone, with the multi-scale training of DETR that Swin and its successors use."""

_base_ = ["./coco_detection.py"]

train_dataloader = dict(dataset=dict(transform=dict(mode="detr")))
