"""Agent-DeiT-S at 448x448 on ImageNet-1K, trained from scratch for 300 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 83.1 % top-1 at 448x448 (23.1 M parameters, 17.6 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_deit_small_448_8xb64_300e_in1k.py --launcher pytorch

The learning rates are those of the official code, which are meant for a batch of 512, as used here. The official config
sets no stochastic depth rate, so the code's default of 0.1 applies.
"""

_base_ = ["../_base_/agent_in1k.py"]

model = dict(backbone=dict(type="agent_deit_small_448", num_classes=1000, drop_path_rate=0.1))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(warmup_lr=5e-7, min_lr=5e-6)
auto_scale_lr = dict(base_batch_size=512)

train_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=448)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=448)))
