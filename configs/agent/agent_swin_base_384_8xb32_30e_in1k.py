"""Agent-Swin-B at 384x384 on ImageNet-1K, fine-tuned from 224x224 for 30 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 84.9 % top-1 at 384x384 (88.3 M parameters, 46.2 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_swin_base_384_8xb32_30e_in1k.py --launcher pytorch

The learning rates are those of the official code for a batch of 512, scaled by 256 / 512 as in the official code. For
evaluation, the image is resized to the input size, ignoring its aspect ratio, and not cropped. It starts from the
weights trained at 224x224, whose bias tables are resized while loading.
"""

_base_ = ["../_base_/agent_in1k.py"]

model = dict(
    backbone=dict(type="agent_swin_base_384", num_classes=1000, drop_path_rate=0.5),
    init_weights="https://cloud.tsinghua.edu.cn/f/4fcd2d0114bb490483c3/?dl=1",
)
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-8))
param_scheduler = dict(warmup_epochs=5, warmup_lr=1e-8, min_lr=1e-7)
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_epochs=30)

train_dataloader = dict(batch_size=32, dataset=dict(transform=dict(size=384)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=384, crop_pct=1.0)))
