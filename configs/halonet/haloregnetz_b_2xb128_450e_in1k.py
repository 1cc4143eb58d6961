"""timm's HaloRegNetZ-B on ImageNet-1K, trained from scratch for 450 epochs at 224x224: recipe RA3.

Paper: Scaling Local Self-Attention for Parameter Efficient Visual Backbones (Vaswani et al., CVPR 2021,
https://arxiv.org/abs/2103.12731); it does not contain this hybrid. The recipe is from ResNet strikes back (Wightman et
al., 2021, https://arxiv.org/abs/2110.00476).
Published: 81.058 % top-1 at 224x224 (11.7 M parameters, 2.0 G multiply-accumulates).
Measured here: not yet.

Command for 2 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 2 tools/train.py configs/halonet/haloregnetz_b_2xb128_450e_in1k.py --launcher pytorch

Only an outline is published: RandAugment, TensorFlow's RMSprop, averaged weights (EMA) and a step schedule after a
warm-up. The values are those of timm's published command for EfficientNet-B2, from which the recipe evolved. Mean and
standard deviation for normalization are those of the checkpoint.
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/rmsprop_450e_step.py",
]

model = dict(
    backbone=dict(type="haloregnetz_b", num_classes=1000, drop_rate=0.3, drop_path_rate=0.2),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1),
    mixing=None,
)
train_dataloader = dict(
    dataset=dict(
        transform=dict(rand_augment="rand-m9-mstd0.5", random_erasing=0.2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    ),
)
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(crop_pct=0.94)))
