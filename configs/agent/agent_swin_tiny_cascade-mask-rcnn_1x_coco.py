r"""Agent-Swin-T with Cascade Mask R-CNN on COCO for 12 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 49.2 box AP, 42.7 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_swin_tiny_cascade-mask-rcnn_1x_coco.py \
        --launcher pytorch
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/cascade_mask_rcnn.py",
    "../_base_/adamw_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="agent_swin_tiny", features_only=True, dense="coco", drop_path_rate=0.1, pretrained=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            an_bias=dict(decay_mult=0.0),
            na_bias=dict(decay_mult=0.0),
            ah_bias=dict(decay_mult=0.0),
            aw_bias=dict(decay_mult=0.0),
            ha_bias=dict(decay_mult=0.0),
            wa_bias=dict(decay_mult=0.0),
        ),
    ),
)
