"""NAT-Mini with Mask R-CNN on COCO for 36 epochs.

Paper: Neighborhood Attention Transformer (Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143).
Published: 46.5 box AP, 41.7 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/nat_mini_mask-rcnn_3x_coco.py --launcher pytorch
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/mask_rcnn.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="nat_mini", features_only=True, dense="coco", drop_path_rate=0.2, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper")
