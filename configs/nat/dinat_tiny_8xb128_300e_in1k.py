"""DiNAT-Tiny on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 82.7 % top-1 at 224x224 (27.9 M parameters, 4.3 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_tiny_8xb128_300e_in1k.py --launcher pytorch
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/adamw_300e.py",
    "../_base_/default_runtime.py",
]

model = dict(backbone=dict(type="dinat_tiny", num_classes=1000, drop_path_rate=0.2))
