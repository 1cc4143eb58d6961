"""DaViT-B with RetinaNet on COCO for 36 epochs.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 48.7 box AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_base_retinanet_3x_coco.py --launcher pytorch

Weight decay applies to all parameters, including norms. The authors did not publish the drop path rate of this size.
This is the maximum of DaViT-T's rate in this setting and the model's own rate on ImageNet.
"""

_base_ = [
    "../_base_/coco_detection_multiscale.py",
    "../_base_/retinanet.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="davit_base", dense="coco", drop_path_rate=0.4, pretrained=True),
    bbox_head=dict(test=dict(nms_pre_of="anchors")),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))))
