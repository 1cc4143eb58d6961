"""Defaults of all segmentors: a checkpoint every 4000 iterations, and the one with the best mIoU is kept."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4000, save_best="mIoU"))
