"""BiFormer-S with UPerNet on ADE20K for 160,000 iterations.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 49.8 mIoU on the validation set at a single scale, 50.8 with multiple scales and flips.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_upernet_160k_ade20k.py --launcher pytorch

Users report that the link to the pretrained weights is broken. If you have the file, set
model.backbone.pretrained=False and model.init_weights to its path.
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_small", features_only=True, dense="ade20k", drop_path_rate=0.3, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper")
