"""timm's ECA-ResNet-50-T on ImageNet-1K, trained from scratch for 100 epochs at 160x160: procedure A3.

Paper: ResNet strikes back: An improved training procedure in timm (Wightman et al., 2021,
https://arxiv.org/abs/2110.00476).
Published: 79.548 % top-1 at 224x224 (25.6 M parameters, 2.2 G multiply-accumulates at 160x160).
Measured here: not yet.

Command for a batch of 2048 on 8 GPUs (for another batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/eca/ecaresnet50t_8xb256_100e_in1k-160.py --launcher pytorch

In the paper, the targets of both mixed images are 1. Here, every target above 0.2 becomes 1, which is timm's threshold
for this purpose. Evaluated at 224x224, like the published result.
"""

_base_ = ["../_base_/lamb_600e_rsb_a1.py"]

model = dict(
    backbone=dict(type="ecaresnet50t", num_classes=1000),
    mixing=dict(mixup_alpha=0.1, label_smoothing=0.0),
)
train_dataloader = dict(
    sampler=dict(num_repeats=1),
    dataset=dict(transform=dict(size=160, rand_augment="rand-m6-mstd0.5-inc1")),
)
optim_wrapper = dict(optimizer=dict(lr=8e-3, weight_decay=0.02))
train_cfg = dict(max_epochs=100)
