"""DiNAT-Large with Cascade Mask R-CNN on COCO for 36 epochs, pretrained on ImageNet-22K.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 55.3 box AP, 47.8 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_large_cascade-mask-rcnn_3x_coco.py --launcher pytorch

The authors train this model without mixed precision.
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/cascade_mask_rcnn.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_large.in22k", features_only=True, dense="coco", drop_path_rate=0.6, pretrained=True),
)
optim_wrapper = dict(optimizer=dict(lr=7.5e-5))
param_scheduler = dict(warmup_lr=7.5e-8)
