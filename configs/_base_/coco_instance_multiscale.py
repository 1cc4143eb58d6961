"""COCO 2017, boxes and masks, with the multi-scale training of DETR that Swin and its successors use."""

_base_ = ["./coco_instance.py"]

train_dataloader = dict(dataset=dict(transform=dict(mode="detr")))
