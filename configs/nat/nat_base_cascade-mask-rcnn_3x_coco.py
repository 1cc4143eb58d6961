"""NAT-Base with Cascade Mask R-CNN on COCO for 36 epochs.

Paper: Neighborhood Attention Transformer (Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143).
Published: 52.3 box AP, 45.1 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/nat_base_cascade-mask-rcnn_3x_coco.py --launcher pytorch
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/cascade_mask_rcnn.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="nat_base", features_only=True, dense="coco", drop_path_rate=0.5, pretrained=True),
)
optim_wrapper = dict(type="AmpOptimWrapper")
