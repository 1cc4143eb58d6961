"""DaViT-B with Mask R-CNN on COCO for 12 epochs.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 48.2 box AP, 43.3 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_base_mask-rcnn_1x_coco.py --launcher pytorch

Weight decay applies to all parameters, including norms. The authors did not publish the drop path rate of this size.
This is the maximum of DaViT-T's rate in this setting and the model's own rate on ImageNet. Proposals of zero area are
kept, as in mmdet 2.11, which the authors used.
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/mask_rcnn.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="davit_base", features_only=True, dense="coco", drop_path_rate=0.4, pretrained=True),
    rpn_head=dict(train_proposals=dict(min_bbox_size=-1), test_proposals=dict(min_bbox_size=-1)),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))))
