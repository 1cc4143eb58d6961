"""NAT-Base with UPerNet on ADE20K for 160,000 iterations.

Paper: Neighborhood Attention Transformer (Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143).
Published: 48.5 mIoU on the validation set at a single scale, 49.7 with multiple scales and flips.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/nat_base_upernet_160k_ade20k.py --launcher pytorch
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="nat_base", features_only=True, dense="ade20k", drop_path_rate=0.5, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper")
