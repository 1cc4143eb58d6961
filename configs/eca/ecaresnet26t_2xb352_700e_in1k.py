"""timm's ECA-ResNet-26-T on ImageNet-1K, trained from scratch for 700 epochs at 256x256: recipe RA2.

Paper: ResNet strikes back: An improved training procedure in timm (Wightman et al., 2021,
https://arxiv.org/abs/2110.00476), recipe B.
Published: 79.9 % top-1 at 320x320 (16.0 M parameters, 3.3 G multiply-accumulates at 256x256).
Measured here: not yet.

Command for 2 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 2 tools/train.py configs/eca/ecaresnet26t_2xb352_700e_in1k.py --launcher pytorch

Only an outline is published for this model: RandAugment, TensorFlow's RMSprop, averaged weights (EMA) and a step
schedule after a warm-up. Batch size, number of epochs, learning rate and its decay, dropout, stochastic depth, mixup,
RandAugment and the EMA decay are those that timm's author published for the similar ecaresnet26d. Epsilon, weight decay
and random erasing are those of timm's published command for EfficientNet-B2, from which RA2 evolved. The rest is not
published: warm-up length, RMSprop's momentum and alpha, and label smoothing are timm's defaults. The learning rate
noise of ecaresnet26d is omitted.
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(type="ecaresnet26t", num_classes=1000, drop_rate=0.19, drop_path_rate=0.1),
    mixing=dict(mixup_alpha=0.19, cutmix_alpha=0.0, label_smoothing=0.1),
)
train_dataloader = dict(
    batch_size=352,
    dataset=dict(transform=dict(size=256, rand_augment="rand-m9-mstd1.0-inc1", random_erasing=0.2)),
)
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=320, crop_pct=0.95)))

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="RMSpropTF", lr=0.082, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-5),
)
param_scheduler = dict(
    type="WarmupStep", decay_rate=0.988, decay_epochs=1, warmup_epochs=3, warmup_lr=1e-6, by_epoch=True
)
auto_scale_lr = dict(enable=False, base_batch_size=704)
custom_hooks = [dict(type="EMAHook", decay=0.999987)]

train_cfg = dict(type="EpochTrainLoop", max_epochs=700, val_interval=1)
val_cfg = dict(type="ValLoop")
