"""Agent-PVT-S with Mask R-CNN on COCO for 12 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 44.5 box AP, 41.2 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_pvt_small_mask-rcnn_1x_coco.py --launcher pytorch

Weight decay applies to all parameters.
"""

_base_ = [
    "../_base_/coco_instance.py",
    "../_base_/mask_rcnn.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="agent_pvt_small", features_only=True, dense="coco", drop_path_rate=0.2, pretrained=True),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))),
)
param_scheduler = dict(warmup_lr=2e-7)
