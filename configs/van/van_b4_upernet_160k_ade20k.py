"""VAN-B4 with UPerNet on ADE20K, 160,000 iterations.

Paper: Visual Attention Network (Guo et al., Computational Visual Media 2023, https://arxiv.org/abs/2202.09741).
Published: 52.2 mIoU on validation with several scales and mirroring; nothing at one scale.
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/van/van_b4_upernet_160k_ade20k.py --launcher pytorch

Images are normalised with ImageNet's mean and deviation, as published, though the starting weights saw them with 0.5
for both. No link to the starting weights is known: fetch pretrained/van_b4.pth by hand, from the folder that the
model's checkpoint van_b4.in1k names, and set model.init_weights; without it, this trains from scratch.
"""

_base_ = [
    "../_base_/ade20k_512_multiple.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="van_b4", features_only=True, norm_eps=1e-5, drop_path_rate=0.4, pretrained=False),
)
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
