r"""NAT with 0.99 M parameters for small images, such as CIFAR-10: 32x32 pixels, one folder per class.

Paper: Neighborhood Attention Transformer (Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143). The model has
the same architecture with fewer and narrower stages and smaller windows; it is not published.
Published: nothing.
Measured here: 58.3 % top-1 after 64 epochs (17 minutes) and 59.3 % after 76 epochs (20 minutes), with averaged weights,
on a subset of CIFAR-10 (500 training and 100 validation images per class) and two cores of an AMD EPYC.

The data folder is data/cifar10, or the value of the environment variable CIFAR10, and contains train/<class>/*.png and
val/<class>/*.png. Larger images are resized to cover 32x32. For another size or number of classes, set:
    python tools/train.py nat_micro_cifar10-like --cfg-options model.backbone.num_classes=7 \
        train_dataloader.dataset.transform.size=64 val_dataloader.dataset.transform.size=64
"""

_base_ = ["../_base_/default_runtime.py"]

_mean, _std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

model = dict(
    type="Classifier",
    backbone=dict(
        type="nat_mini",
        depths=(1, 2, 2),
        embed_dims=(48, 96, 192),
        num_heads=(2, 4, 8),
        kernel_size=5,
        mlp_ratio=2.0,
        stem_stride=2,
        num_classes=10,
        drop_path_rate=0.1,
    ),
    data_preprocessor=dict(mean=_mean, std=_std),
    loss=dict(type="SoftTargetCrossEntropy"),
    mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.5, label_smoothing=0.1),
)

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(
        type="ImageClassificationDataset",
        root="{{$CIFAR10:data/cifar10}}",
        split="train",
        transform=dict(
            type="SmallImageTrain",
            size=32,
            padding=4,
            rand_augment="rand-m5-n1-mstd0.5-inc1",
            mean=_mean,
            std=_std,
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(
        type="ImageClassificationDataset",
        root="{{$CIFAR10:data/cifar10}}",
        split="val",
        transform=dict(type="Evaluation", size=32, crop_pct=1.0),
    ),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(
    type="WarmupCosine", warmup_epochs=5, warmup_lr=1e-5, min_lr=1e-5, cooldown_epochs=2, warmup_prefix=True
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
train_cfg = dict(type="EpochTrainLoop", max_epochs=76, val_interval=4)
val_cfg = dict(type="ValLoop")

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=4, max_keep_ckpts=2))
custom_hooks = [dict(type="EMAHook", decay=0.998, warmup=True)]
