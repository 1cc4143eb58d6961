"""BiFormer-T on ImageNet-1K, from scratch, 300 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
    https://arxiv.org/abs/2303.08810).
Published: 81.4 % top-1 at 224x224 (13.1 M parameters, 2.2 G multiply-accumulates).
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_tiny_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository, whose learning rate of 5e-4 for a batch of 512 is 1e-3 for 1024.
Its default drop path is 0.1; its command names 0.15, for BiFormer-S. With it a user reports 81.26 %.
"""

_base_ = ["../_base_/biformer_in1k.py"]

model = dict(backbone=dict(type="biformer_tiny", num_classes=1000, drop_path_rate=0.1))
