"""BiFormer-B with Mask R-CNN on COCO, 12 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 48.6 box AP, 43.7 mask AP on val2017, at one scale of 1333x800.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_base_mask-rcnn_1x_coco.py --launcher pytorch

The statistics of the backbone's batch norms are those of ImageNet, as published. Proposals without area are kept, as in
mmdet 2.11, with which it was published. Users report the link to the starting weights as broken: with the file at hand,
set model.backbone.pretrained=False and model.init_weights.
"""

_base_ = [
    "../_base_/coco_instance.py",
    "../_base_/mask_rcnn.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_base", features_only=True, dense="coco", drop_path_rate=0.3, pretrained=True),
    rpn_head=dict(train_proposals=dict(min_bbox_size=-1), test_proposals=dict(min_bbox_size=-1)),
    norm_eval=True,
)
optim_wrapper = dict(type="AmpOptimWrapper")
