"""Agent-Swin-T with UPerNet on ADE20K for 160,000 iterations.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 46.68 mIoU on the validation set at a single scale.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_swin_tiny_upernet_160k_ade20k.py --launcher pytorch
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="agent_swin_tiny", features_only=True, dense="ade20k", drop_path_rate=0.3, pretrained=True),
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
