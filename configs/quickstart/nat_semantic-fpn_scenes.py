"""A small NAT with Semantic FPN on scenes of handwritten digits: a class for each pixel, minutes on two CPU cores.

Paper: Panoptic Feature Pyramid Networks (Kirillov et al., CVPR 2019, https://arxiv.org/abs/1901.02446) on a
Neighborhood Attention Transformer (Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143), both with fewer and
narrower layers; nobody published it.
Published: nothing.
Measured here: not yet.

    python tools/make_scenes.py
    python tools/train.py configs/quickstart/nat_semantic-fpn_scenes.py --work-dir work_dirs/quickstart_segment
    python tools/test.py nat_semantic-fpn_scenes work_dirs/quickstart_segment --work-dir work_dirs/quickstart_segment
"""

_base_ = ["../_base_/default_runtime.py"]

_classes = ("ground", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

model = dict(
    type="Segmentor",
    backbone=dict(
        type="nat_mini",
        features_only=True,
        depths=(1, 1, 2, 1),
        embed_dims=(16, 32, 64, 128),
        num_heads=(1, 1, 2, 4),
        kernel_size=5,
        stem_stride=2,
        drop_path_rate=0.0,
    ),
    neck=dict(type="FPN", out_channels=32, num_outs=4),
    decode_head=dict(type="FPNHead", num_classes=11, channels=32, feature_strides=(2, 4, 8, 16)),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type="dense_collate"),
    drop_last=True,
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(
        type="SegmentationFolders",
        root="data/scenes",
        images="train",
        labels="labels/train",
        classes=_classes,
        # A mirrored digit is another one, or none.
        transform=dict(
            type="SegmentationTrain", scale=(128, 128), ratio_range=(0.75, 1.5), crop_size=(128, 128), flip=0.0
        ),
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type="dense_collate"),
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(
        type="SegmentationFolders",
        root="data/scenes",
        images="val",
        labels="labels/val",
        classes=_classes,
        transform=dict(type="SegmentationTest", scale=(128, 128)),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="MeanIoU")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="WarmupCosine", warmup_iters=100, warmup_lr=1e-5, min_lr=1e-5, warmup_prefix=True)
train_cfg = dict(type="EpochTrainLoop", max_epochs=8, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

default_hooks = dict(logger=dict(interval=50), checkpoint=dict(save_best="mIoU"))
