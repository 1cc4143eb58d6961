"""VAN-B5 at 384x384 on ImageNet-1K, fine-tuned from ImageNet-22K for 30 epochs.

Paper: Visual Attention Network (Guo et al., Computational Visual Media 2023, https://arxiv.org/abs/2202.09741).
Published: 87.0 % top-1 at 384x384 (90.0 M parameters, 50.3 G multiply-accumulates).
Measured here: not yet.

Command for 32 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nnodes 4 --nproc-per-node 8 tools/train.py configs/van/van_b5_32xb16_30e_in1k-384.py --launcher pytorch

These are the settings of the script that the official repository links to (LGYoung/VAN-Classification). It normalizes
images with ImageNet's mean and standard deviation, whereas the recipes from scratch use 0.5. The paper says only that
the model was fine-tuned. The script scales down the initial weights of the classifier for models that support it; VAN
does not.
"""

_base_ = ["../_base_/van_in22k_ft_in1k.py"]

model = dict(
    backbone=dict(type="van_b5", num_classes=1000, drop_path_rate=0.2),
    init_weights="https://download.openmmlab.com/mmsegmentation/v0.5/van_3rdparty/"
    "van-b5-in22k_3rdparty_20230522-b26134d7.pth",
)
train_dataloader = dict(batch_size=16, dataset=dict(transform=dict(size=384)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=384, crop_pct=1.0, crop_mode="squash")))
