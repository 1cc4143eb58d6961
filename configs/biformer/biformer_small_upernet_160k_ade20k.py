"""BiFormer-S with UPerNet on ADE20K, 160,000 iterations.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 49.8 mIoU on validation at one scale, 50.8 with several scales and mirroring.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_upernet_160k_ade20k.py --launcher pytorch

Users report the link to the starting weights as broken: with the file at hand, set model.backbone.pretrained=False and
model.init_weights.
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
