"""Recipe of Agent-PVT and Agent-CSwin: 10 more cooldown epochs, no gradient clipping, other minimum learning rates."""

_base_ = ["agent_in1k.py"]

optim_wrapper = dict(clip_grad=None)
param_scheduler = dict(warmup_lr=2e-6, min_lr=2e-5, cooldown_epochs=10)
train_cfg = dict(max_epochs=310)
