"""Agent-CSwin-B at 384x384 on ImageNet-1K, fine-tuned from 224x224 for 20 epochs plus 10 cooldown epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 85.8 % top-1 at 384x384 (73.3 M parameters, 46.2 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_cswin_base_384_8xb32_20e_in1k.py --launcher pytorch

The learning rates are those of the official code for a batch of 512, scaled by 256 / 512 as in the official code. The
EMA decay of 0.9998 is that of the repository's command for this training; the one for 224x224 is 0.99992. There is no
warm-up. It starts from the weights trained at 224x224, whose bias tables are resized while loading.
"""

_base_ = ["../_base_/agent_cooldown_in1k.py"]

model = dict(
    backbone=dict(type="agent_cswin_base_384", num_classes=1000, drop_path_rate=0.7),
    init_weights="https://cloud.tsinghua.edu.cn/f/c8035b0839b2410c8c9f/?dl=1",
)
optim_wrapper = dict(optimizer=dict(lr=2.5e-6, weight_decay=1e-8))
param_scheduler = dict(warmup_epochs=0, min_lr=2.5e-7)
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type="EMAHook", decay=0.9998)]

train_dataloader = dict(batch_size=32, dataset=dict(transform=dict(size=384)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=384)))
