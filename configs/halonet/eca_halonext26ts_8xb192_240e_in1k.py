"""timm's ECA-HaloNeXt-26-TS on ImageNet-1K, trained from scratch for 240 epochs at 256x256: recipe C1.

Paper: Scaling Local Self-Attention for Parameter Efficient Visual Backbones (Vaswani et al., CVPR 2021,
https://arxiv.org/abs/2103.12731); it does not contain this hybrid. The recipe is from ResNet strikes back (Wightman et
al., 2021, https://arxiv.org/abs/2110.00476).
Published: 79.518 % top-1 at 256x256 (10.8 M parameters, 2.4 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/halonet/eca_halonext26ts_8xb192_240e_in1k.py --launcher pytorch

Only an outline is published: SGD with Nesterov momentum, adaptive gradient clipping and a cosine schedule after a
warm-up. The values are those of timm's published command for ResNeXt-50 with RandAugment, without its threefold random
erasing. Those of gradient clipping are from its paper (Brock et al., ICML 2021).
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(type="eca_halonext26ts", num_classes=1000),
    loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1),
    mixing=None,
)
train_dataloader = dict(
    batch_size=192,
    dataset=dict(transform=dict(size=256, rand_augment="rand-m7-mstd0.5-inc1", random_erasing=0.4)),
)
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=256, crop_pct=0.94)))

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="SGD", lr=0.6, momentum=0.9, nesterov=True, weight_decay=1e-4),
    clip_grad=dict(type="adaptive", clip_factor=0.01, eps=1e-3, exclude=("head.fc",)),
)
param_scheduler = dict(type="WarmupCosine", warmup_epochs=5, warmup_lr=1e-4, min_lr=1e-5)
auto_scale_lr = dict(enable=False, base_batch_size=1536)

train_cfg = dict(type="EpochTrainLoop", max_epochs=240, val_interval=1)
val_cfg = dict(type="ValLoop")
