"""Agent-DeiT-T on ImageNet-1K, trained from scratch for 300 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 74.9 % top-1 at 224x224 (6.0 M parameters, 1.2 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_deit_tiny_8xb512_300e_in1k.py --launcher pytorch

The learning rates are those of the official code for a batch of 512, scaled by 4096 / 512 as in the official code.
"""

_base_ = ["../_base_/agent_in1k.py"]

model = dict(backbone=dict(type="agent_deit_tiny", num_classes=1000))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = dict(warmup_lr=4e-6, min_lr=4e-5)
auto_scale_lr = dict(base_batch_size=4096)

train_dataloader = dict(batch_size=512)
