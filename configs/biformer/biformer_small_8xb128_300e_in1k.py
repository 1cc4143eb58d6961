"""BiFormer-S on ImageNet-1K, from scratch, 300 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
    https://arxiv.org/abs/2303.08810).
Published: 83.8 % top-1 at 224x224 (25.5 M parameters, 4.5 G multiply-accumulates).
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_small_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository, whose learning rate of 5e-4 for a batch of 512 is 1e-3 for 1024.
Its own evaluation gives 83.754 % for the released weights. For the paper's 84.3 % with token labelling no code was
published.
"""

_base_ = ["../_base_/biformer_in1k.py"]

model = dict(backbone=dict(type="biformer_small", num_classes=1000, drop_path_rate=0.15))
