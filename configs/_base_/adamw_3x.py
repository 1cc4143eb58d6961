"""AdamW for 36 epochs: learning rate divided by 10 after epochs 27 and 33, 500 warm-up iterations."""

_base_ = ["./adamw_1x.py"]

param_scheduler = dict(milestones=(27, 33))
train_cfg = dict(max_epochs=36)
