"""BiFormer-T on ImageNet-1K, trained from scratch for 300 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
https://arxiv.org/abs/2303.08810).
Published: 81.4 % top-1 at 224x224 (13.1 M parameters, 2.2 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_tiny_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository: its learning rate of 5e-4 for a batch of 512 corresponds to 1e-3 for
1024. Its default drop path rate is 0.1; its command uses 0.15, for BiFormer-S. A user reports 81.26 % with it.
"""

_base_ = ["../_base_/biformer_in1k.py"]

model = dict(backbone=dict(type="biformer_tiny", num_classes=1000, drop_path_rate=0.1))
