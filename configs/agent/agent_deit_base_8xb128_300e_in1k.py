"""Agent-DeiT-B on ImageNet-1K, trained from scratch for 300 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 82.0 % top-1 at 224x224 (87.2 M parameters, 17.5 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_deit_base_8xb128_300e_in1k.py --launcher pytorch
"""

_base_ = ["../_base_/agent_in1k.py"]

model = dict(backbone=dict(type="agent_deit_base", num_classes=1000, drop_path_rate=0.3))
