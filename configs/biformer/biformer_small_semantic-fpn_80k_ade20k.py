r"""BiFormer-S with Semantic FPN on ADE20K, 80,000 iterations.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 48.9 mIoU on validation at one scale.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_semantic-fpn_80k_ade20k.py \
        --launcher pytorch

Users report the link to the starting weights as broken: with the file at hand, set model.backbone.pretrained=False and
model.init_weights.
"""

_base_ = [
    "../_base_/ade20k_512_multiple.py",
    "../_base_/semantic_fpn.py",
    "../_base_/adamw_cosine_80k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_small", features_only=True, dense="ade20k", drop_path_rate=0.15, pretrained=True),
)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(type="AmpOptimWrapper")
