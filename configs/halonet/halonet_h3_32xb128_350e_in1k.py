r"""HaloNet-H3 on ImageNet-1K, trained from scratch for 350 epochs at 320x320.

Paper: Scaling Local Self-Attention for Parameter Efficient Visual Backbones (Vaswani et al., CVPR 2021,
https://arxiv.org/abs/2103.12731).
Published: 81.9 % top-1 at 320x320 (11.8 M parameters, 6.2 G multiply-accumulates).
Measured here: not yet.

Command for 32 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nnodes 4 --nproc-per-node 8 tools/train.py \
        configs/halonet/halonet_h3_32xb128_350e_in1k.py --launcher pytorch

Size, architecture and accuracy are the paper's, as quoted by re-implementations. It is known that the training used
RandAugment, stochastic depth, label smoothing and a long schedule, but not their values: these are guesses, and so is
the crop for evaluation.
"""

_base_ = ["../_base_/halonet_in1k.py"]

model = dict(backbone=dict(type="halonet_h3", num_classes=1000, drop_path_rate=0.2))
train_dataloader = dict(dataset=dict(transform=dict(size=320)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=320)))
