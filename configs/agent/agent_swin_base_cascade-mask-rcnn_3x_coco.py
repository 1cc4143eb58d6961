r"""Agent-Swin-B with Cascade Mask R-CNN on COCO for 36 epochs.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 52.6 box AP, 45.3 mask AP on val2017, single scale 1333x800.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_swin_base_cascade-mask-rcnn_3x_coco.py \
        --launcher pytorch
"""

_base_ = [
    "../_base_/coco_instance_multiscale.py",
    "../_base_/cascade_mask_rcnn.py",
    "../_base_/adamw_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="agent_swin_base", features_only=True, dense="coco", drop_path_rate=0.4, pretrained=True),
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
