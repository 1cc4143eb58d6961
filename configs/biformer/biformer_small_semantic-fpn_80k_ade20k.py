r"""BiFormer-S with Semantic FPN on ADE20K for 80,000 iterations.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 48.9 mIoU on the validation set at a single scale.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_semantic-fpn_80k_ade20k.py \
        --launcher pytorch

Users report that the link to the pretrained weights is broken. If you have the file, set
model.backbone.pretrained=False and model.init_weights to its path.
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
