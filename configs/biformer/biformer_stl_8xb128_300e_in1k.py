"""BiFormer-STL (Swin-T's layout) on ImageNet-1K, trained from scratch for 300 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 82.7 % top-1 at 224x224 (28.4 M parameters, 4.6 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_stl_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository: its learning rate of 5e-4 for a batch of 512 corresponds to 1e-3 for
1024. This model is from the paper's ablation. The drop path rate is the repository's default.
"""

_base_ = ["../_base_/biformer_in1k.py"]

model = dict(backbone=dict(type="biformer_stl", num_classes=1000, drop_path_rate=0.1))
