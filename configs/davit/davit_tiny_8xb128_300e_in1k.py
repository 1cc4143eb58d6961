"""DaViT-Tiny on ImageNet-1K, from scratch, 300 epochs and 10 to cool down.

Paper: DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022, https://arxiv.org/abs/2204.03645).
Published: 82.8 % top-1 at 224x224 (28.4 M parameters, 4.5 G multiply-accumulates).
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/davit/davit_tiny_8xb128_300e_in1k.py --launcher pytorch

These are the settings of the official repository: a batch of 1024 at a learning rate of 1e-3, or of 2048 at 2e-3.
The rate of stochastic depth is the repository's default.
Evaluation crops 0.9 of the image as there; timm measured with 0.95.
"""

_base_ = ["../_base_/davit_in1k.py"]

model = dict(backbone=dict(type="davit_tiny", num_classes=1000, drop_path_rate=0.1))
