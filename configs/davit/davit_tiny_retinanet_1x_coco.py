"""DaViT-T with RetinaNet on COCO for 12 epochs.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 44.0 box AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_tiny_retinanet_1x_coco.py --launcher pytorch

Weight decay applies to all parameters, including norms.
"""

_base_ = [
    "../_base_/coco_detection_multiscale.py",
    "../_base_/retinanet.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="davit_tiny", dense="coco", drop_path_rate=0.1, pretrained=True),
    bbox_head=dict(test=dict(nms_pre_of="anchors")),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))))
