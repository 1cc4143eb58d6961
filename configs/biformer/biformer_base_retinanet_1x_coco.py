"""BiFormer-B with RetinaNet on COCO for 12 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 47.1 box AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_base_retinanet_1x_coco.py --launcher pytorch

Weight decay applies to all parameters. The batch norms of the backbone keep their ImageNet statistics, as published.
Users report that the link to the pretrained weights is broken. If you have the file, set
model.backbone.pretrained=False and model.init_weights to its path.
"""

_base_ = [
    "../_base_/coco_detection.py",
    "../_base_/retinanet.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_base", dense="coco", drop_path_rate=0.3, pretrained=True),
    bbox_head=dict(test=dict(nms_pre_of="anchors")),
    norm_eval=True,
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))),
)
