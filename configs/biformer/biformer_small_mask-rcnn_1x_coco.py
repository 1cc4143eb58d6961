"""BiFormer-S with Mask R-CNN on COCO for 12 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 47.8 box AP, 43.2 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_mask-rcnn_1x_coco.py --launcher pytorch

The batch norms of the backbone keep their ImageNet statistics, as published. Proposals of zero area are kept, as in
mmdet 2.11, which the authors used. Before releasing the code, the authors reproduced 48.1 and 43.6 with it. Users
report that the link to the pretrained weights is broken. If you have the file, set model.backbone.pretrained=False and
model.init_weights to its path.
"""

_base_ = [
    "../_base_/coco_instance.py",
    "../_base_/mask_rcnn.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="biformer_small", features_only=True, dense="coco", drop_path_rate=0.2, pretrained=True),
    rpn_head=dict(train_proposals=dict(min_bbox_size=-1), test_proposals=dict(min_bbox_size=-1)),
    norm_eval=True,
)
optim_wrapper = dict(type="AmpOptimWrapper")
