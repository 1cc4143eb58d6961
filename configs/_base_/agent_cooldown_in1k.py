"""The agent transformers' recipe with 10 epochs more to cool down, no clipping, and other least rates (PVT, CSwin)."""

_base_ = ["agent_in1k.py"]

optim_wrapper = dict(clip_grad=None)
param_scheduler = dict(warmup_lr=2e-6, min_lr=2e-5, cooldown_epochs=10)
train_cfg = dict(max_epochs=310)
