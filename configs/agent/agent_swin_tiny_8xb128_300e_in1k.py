"""Agent-Swin-T on ImageNet-1K, trained from scratch for 300 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 82.6 % top-1 at 224x224 (28.9 M parameters, 4.5 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_swin_tiny_8xb128_300e_in1k.py --launcher pytorch
"""

_base_ = ["../_base_/agent_in1k.py"]

model = dict(backbone=dict(type="agent_swin_tiny", num_classes=1000, drop_path_rate=0.2))
