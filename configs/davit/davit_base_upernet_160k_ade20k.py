"""DaViT-B with UPerNet on ADE20K, 160,000 iterations.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 49.4 mIoU on validation at one scale.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_base_upernet_160k_ade20k.py --launcher pytorch

All parameters decay, norms too. The authors published no drop path for this size: this is the larger one of DaViT-T's
in this setting and of the model's own on ImageNet. The heads' batch norms see one GPU's images, as published.
"""

_base_ = [
    "../_base_/ade20k_512.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="davit_base", features_only=True, dense="ade20k", drop_path_rate=0.4, pretrained=True),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=1.0))))
sync_bn = False
