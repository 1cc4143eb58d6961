"""BiFormer-B on ImageNet-1K, from scratch, 300 epochs.

Paper: BiFormer: Vision Transformer with Bi-Level Routing Attention (Zhu et al., CVPR 2023,
    https://arxiv.org/abs/2303.08810).
Published: 84.3 % top-1 at 224x224 (56.8 M parameters, 9.8 G multiply-accumulates).
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/biformer/biformer_base_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository, whose learning rate of 5e-4 for a batch of 512 is 1e-3 for 1024.
Drop path is the paper's, quoted from memory and not checked: the repository's command names only BiFormer-S's, 0.15.
For the paper's 85.4 % with token labelling no code was published.
"""

_base_ = ["../_base_/biformer_in1k.py"]

model = dict(backbone=dict(type="biformer_base", num_classes=1000, drop_path_rate=0.4))
