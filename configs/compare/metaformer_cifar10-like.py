r"""Small MetaFormer for comparing token mixers on small images, such as CIFAR-10, in short training runs.

Paper: MetaFormer Is Actually What You Need for Vision (Yu et al., CVPR 2022, https://arxiv.org/abs/2111.11418), for the
body; `attnzoo.backbones.metaformer` cites the papers of the mixers. This size is not published.
Published: nothing.
Measured here: on a 5,000-image subset of CIFAR-10 with train_cfg.max_epochs=8, 33.1 % (pool) to 46.1 % (lka) top-1, one
run each; the README has the table. The full recipe was not measured.

These are short training runs: none has converged, and the ranking may change after a hundred more epochs.

The data folder is data/cifar10, or the value of the environment variable CIFAR10, and contains train/<class>/*.png and
val/<class>/*.png:
    python tools/compare.py configs/compare/metaformer_cifar10-like.py --work-dir work_dirs/compare_cifar10
A single mixer:
    python tools/train.py configs/compare/metaformer_cifar10-like.py --cfg-options model.backbone.mixer=biformer
"""

_base_ = ["../_base_/default_runtime.py"]

_mean, _std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

model = dict(
    type="Classifier",
    backbone=dict(type="metaformer_micro", mixer="pool", num_classes=10, drop_path_rate=0.05),
    data_preprocessor=dict(mean=_mean, std=_std),
    loss=dict(type="CrossEntropy", label_smoothing=0.1),
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
param_scheduler = dict(type="WarmupCosine", warmup_epochs=1, warmup_lr=1e-5, min_lr=1e-5, warmup_prefix=True)
train_cfg = dict(type="EpochTrainLoop", max_epochs=12, val_interval=2)
val_cfg = dict(type="ValLoop")

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=2, max_keep_ckpts=1))
