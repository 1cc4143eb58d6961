"""timm's HaloNet-50-TS on ImageNet-1K, trained from scratch for 600 epochs at 256x256: recipe A1h.

Paper: Scaling Local Self-Attention for Parameter Efficient Visual Backbones (Vaswani et al., CVPR 2021,
https://arxiv.org/abs/2103.12731); it does not contain this hybrid. The recipe is from ResNet strikes back (Wightman et
al., 2021, https://arxiv.org/abs/2110.00476).
Published: 81.64 % top-1 at 256x256 (22.7 M parameters, 5.3 G multiply-accumulates).
Measured here: not yet.

Command for a batch of 2048 on 8 GPUs (for another batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/halonet/halonet50ts_8xb256_600e_in1k.py --launcher pytorch

The published description is procedure A1 with more dropout, stochastic depth and RandAugment, without values. Here
dropout is 0.1 (A1: none), stochastic depth 0.1 (A1: 0.05) and RandAugment's magnitude 8 (A1: 7); these values are
guesses.
"""

_base_ = ["../_base_/lamb_600e_rsb_a1.py"]

model = dict(backbone=dict(type="halonet50ts", num_classes=1000, drop_rate=0.1, drop_path_rate=0.1))
train_dataloader = dict(dataset=dict(transform=dict(size=256, rand_augment="rand-m8-mstd0.5-inc1")))
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=256, crop_pct=0.94)))
