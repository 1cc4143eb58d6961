"""Agent-CSwin-B on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 84.7 % top-1 at 224x224 (73.2 M parameters, 14.9 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_cswin_base_8xb64_300e_in1k.py --launcher pytorch

The learning rates are those of the official code, which are meant for a batch of 512, as used here. Weights are
averaged (EMA), and the averaged weights are evaluated and published.
"""

_base_ = ["../_base_/agent_cooldown_in1k.py"]

model = dict(backbone=dict(type="agent_cswin_base", num_classes=1000, drop_path_rate=0.5))
optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=0.1))
param_scheduler = dict(warmup_lr=1e-6, min_lr=1e-5)
auto_scale_lr = dict(base_batch_size=512)
custom_hooks = [dict(type="EMAHook", decay=0.99992)]

train_dataloader = dict(batch_size=64)
