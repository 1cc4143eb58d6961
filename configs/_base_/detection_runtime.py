"""What every run of a detector has; the checkpoint with the best box AP is kept."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(checkpoint=dict(save_best="bbox_mAP"))
