"""Defaults of all detectors; keeps the checkpoint with the best box AP."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(checkpoint=dict(save_best="bbox_mAP"))
