"""DiNAT-Base with UPerNet on ADE20K for 160,000 iterations.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 49.6 mIoU on the validation set at a single scale, 50.4 with multiple scales and flips.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_base_upernet_160k_ade20k.py --launcher pytorch
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_base", features_only=True, dense="ade20k", drop_path_rate=0.5, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper")
