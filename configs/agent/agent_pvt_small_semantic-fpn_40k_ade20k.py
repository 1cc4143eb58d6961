r"""Agent-PVT-S with Semantic FPN on ADE20K for 40,000 iterations.

Paper: Agent Attention: On the Integration of Softmax and Linear Attention (Han et al., ECCV 2024,
https://arxiv.org/abs/2312.08874).
Published: 44.18 mIoU on the validation set at a single scale.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/agent/agent_pvt_small_semantic-fpn_40k_ade20k.py \
        --launcher pytorch
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/semantic_fpn.py",
    "../_base_/adamw_40k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="agent_pvt_small", features_only=True, dense="ade20k", drop_path_rate=0.1, pretrained=True),
)
auto_scale_lr = dict(base_batch_size=16)
