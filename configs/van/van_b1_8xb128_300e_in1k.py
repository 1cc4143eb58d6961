"""VAN-B1 on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: Visual Attention Network (Guo et al., Computational Visual Media 2023, https://arxiv.org/abs/2202.09741).
Published: 81.1 % top-1 at 224x224 (13.9 M parameters, 2.5 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/van/van_b1_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository. The paper states a learning rate of 5e-4 instead of 1e-3, and
averaged weights (EMA), which the repository's command does not enable.
"""

_base_ = ["../_base_/van_in1k.py"]

model = dict(backbone=dict(type="van_b1", num_classes=1000, drop_path_rate=0.1))
