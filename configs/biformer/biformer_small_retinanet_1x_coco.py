"""BiFormer-S with RetinaNet on COCO, 12 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 45.9 box AP on val2017, at one scale of 1333x800.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_retinanet_1x_coco.py --launcher pytorch

All parameters decay. The statistics of the backbone's batch norms are those of ImageNet, as published. Right before
releasing the code, the authors reproduced 47.3 with it. Users report the link to the starting weights as broken: with
the file at hand, set model.backbone.pretrained=False and model.init_weights.
"""

_base_ = [
    "../_base_/coco_detection.py",
    "../_base_/retinanet.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_small", dense="coco", drop_path_rate=0.2, pretrained=True),
    bbox_head=dict(test=dict(nms_pre_of="anchors")),
    norm_eval=True,
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))),
)
