"""DiNAT_s-Large with Cascade Mask R-CNN on COCO for 36 epochs, pretrained on ImageNet-22K.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 54.8 box AP, 47.2 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_s_large_cascade-mask-rcnn_3x_coco.py --launcher pytorch
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/cascade_mask_rcnn.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_s_large.in22k", features_only=True, dense="coco", drop_path_rate=0.6, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper", optimizer=dict(lr=5e-5))
param_scheduler = dict(warmup_lr=5e-8)
