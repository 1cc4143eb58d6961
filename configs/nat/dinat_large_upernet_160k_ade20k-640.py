"""DiNAT-Large with UPerNet on ADE20K at 640x640 for 160,000 iterations, pretrained on ImageNet-22K.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 54.0 mIoU on the validation set at a single scale, 54.9 with multiple scales and flips.
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_large_upernet_160k_ade20k-640.py --launcher pytorch

The authors train this model without mixed precision. The authors' config of this size inherits crops of 512x512, but
its name, its dilations and the paper say 640x640.
"""

_base_ = [
    "../_base_/ade20k_640.py",
    "../_base_/upernet.py",
    "../_base_/adamw_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_large.in22k", features_only=True, dense="ade20k", drop_path_rate=0.3, pretrained=True),
    data_preprocessor=dict(train_size=(640, 640)),
)
