"""Agent-CSwin-S on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 83.9 % top-1 at 224x224 (32.8 M parameters, 6.7 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_cswin_small_8xb128_300e_in1k.py --launcher pytorch

Weights are averaged (EMA), and the averaged weights are evaluated and published.
"""

_base_ = ["../_base_/agent_cooldown_in1k.py"]

model = dict(backbone=dict(type="agent_cswin_small", num_classes=1000, drop_path_rate=0.4))
custom_hooks = [dict(type="EMAHook", decay=0.99984)]
