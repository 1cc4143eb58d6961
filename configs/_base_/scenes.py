"""Base of the quick starts on the scenes of `tools/make_scenes.py`: batches, optimizer and schedule for two CPU cores.

A quick start adds its data sets, its evaluator and the number of epochs.
"""

_base_ = ["./default_runtime.py"]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type="dense_collate"),
    sampler=dict(type="EpochSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type="dense_collate"),
    sampler=dict(type="EvaluationSampler"),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="WarmupCosine", warmup_iters=100, warmup_lr=1e-5, min_lr=1e-5, warmup_prefix=True)
train_cfg = dict(type="EpochTrainLoop")
val_cfg = dict(type="ValLoop")
