"""VAN-B3 with Semantic FPN on ADE20K for 40,000 iterations.

Paper: Visual Attention Network (Guo et al., Computational Visual Media 2023, https://arxiv.org/abs/2202.09741).
Published: 48.1 mIoU on the validation set at a single scale.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/van/van_b3_semantic-fpn_40k_ade20k.py --launcher pytorch

Images are normalized with ImageNet's mean and standard deviation, as published, although the pretrained weights were
trained with 0.5 for both.
"""

_base_ = [
    "../_base_/ade20k_512_multiple.py",
    "../_base_/semantic_fpn.py",
    "../_base_/adamw_40k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="van_b3", features_only=True, norm_eps=1e-5, drop_path_rate=0.3, pretrained=True),
)
train_dataloader = dict(batch_size=4)
