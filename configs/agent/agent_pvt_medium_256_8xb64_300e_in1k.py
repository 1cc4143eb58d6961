"""Agent-PVT-M at 256x256 on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 83.8 % top-1 at 256x256 (36.1 M parameters, 9.1 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_pvt_medium_256_8xb64_300e_in1k.py --launcher pytorch

The learning rates are those of the official code, which are meant for a batch of 512, as used here.
"""

_base_ = ["../_base_/agent_cooldown_in1k.py"]

model = dict(backbone=dict(type="agent_pvt_medium_256", num_classes=1000, drop_path_rate=0.3))
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(_delete_=True, max_norm=1.0))
param_scheduler = dict(warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5)
auto_scale_lr = dict(base_batch_size=512)

train_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=256)))
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=256)))
