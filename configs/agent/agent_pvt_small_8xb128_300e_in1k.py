"""Agent-PVT-S on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 82.2 % top-1 at 224x224 (20.6 M parameters, 4.0 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_pvt_small_8xb128_300e_in1k.py --launcher pytorch
"""

_base_ = ["../_base_/agent_cooldown_in1k.py"]

model = dict(backbone=dict(type="agent_pvt_small", num_classes=1000, drop_path_rate=0.1))
param_scheduler = dict(warmup_epochs=5)
