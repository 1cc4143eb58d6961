"""VAN-B0 with UPerNet on ADE20K, 160,000 iterations.

Paper: Visual Attention Network (Guo et al., Computational Visual Media 2023, https://arxiv.org/abs/2202.09741).
Published: 41.1 mIoU on validation with several scales and mirroring; nothing at one scale.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/van/van_b0_upernet_160k_ade20k.py --launcher pytorch

Images are normalised with ImageNet's mean and deviation, as published, though the starting weights saw them with 0.5
for both.
"""

_base_ = [
    "../_base_/ade20k_512_multiple.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="van_b0", features_only=True, norm_eps=1e-5, drop_path_rate=0.1, pretrained=True),
)
