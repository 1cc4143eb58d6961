r"""Small MetaFormer for comparing token mixers on scikit-learn's handwritten digits, in minutes on two CPU cores.

Paper: MetaFormer Is Actually What You Need for Vision (Yu et al., CVPR 2022, https://arxiv.org/abs/2111.11418), for the
body; `attnzoo.backbones.metaformer` cites the papers of the mixers. This size is not published.
Published: nothing.
Measured here: 96.9 % (pool) to 99.2 % (agent) top-1 after the last epoch, one run each; the README has the table.

These are short training runs of small models on small images: they show that every mixer learns, and its cost, but not
which one is better on photographs.

    python tools/make_digits.py
    python tools/compare.py configs/compare/metaformer_digits.py --work-dir work_dirs/compare_digits
A single mixer:
    python tools/train.py configs/compare/metaformer_digits.py --cfg-options model.backbone.mixer=biformer
"""

_base_ = ["../_base_/default_runtime.py"]

model = dict(
    type="Classifier",
    backbone=dict(type="metaformer_micro", mixer="pool", num_classes=10, drop_path_rate=0.05),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    loss=dict(type="CrossEntropy", label_smoothing=0.1),
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(
        type="ImageClassificationDataset",
        root="data/digits",
        split="train",
        # No horizontal flips: a mirrored digit is a different digit or none.
        transform=dict(type="SmallImageTrain", size=32, padding=3, flip=0.0),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(
        type="ImageClassificationDataset",
        root="data/digits",
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

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
