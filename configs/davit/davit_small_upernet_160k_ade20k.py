"""DaViT-S with UPerNet on ADE20K for 160,000 iterations.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 48.8 mIoU on the validation set at a single scale.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_small_upernet_160k_ade20k.py --launcher pytorch

Weight decay applies to all parameters, including norms. The authors did not publish the drop path rate of this size.
This is the maximum of DaViT-T's rate in this setting and the model's own rate on ImageNet. The batch norms of the heads
are not synchronized between GPUs, as published.
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="davit_small", features_only=True, dense="ade20k", drop_path_rate=0.3, pretrained=True),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))))
sync_bn = False
