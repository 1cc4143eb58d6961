"""DaViT-Small on ImageNet-1K, trained from scratch for 300 epochs plus 10 cooldown epochs.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 84.2 % top-1 at 224x224 (49.7 M parameters, 8.8 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_small_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository: a learning rate of 1e-3 for a batch of 1024, or 2e-3 for 2048. The
stochastic depth rate of 0.2 is quoted from the paper and was not checked: the repository uses 0.1 for all sizes.
Evaluation uses a crop of 0.9, like the repository; timm used 0.95.
"""

_base_ = ["../_base_/davit_in1k.py"]

model = dict(backbone=dict(type="davit_small", num_classes=1000, drop_path_rate=0.2))
