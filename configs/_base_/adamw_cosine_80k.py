"""AdamW for 80,000 iterations: cosine schedule multiplied by a warm-up of 1000, weight decay for all parameters."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=1.0, bias_decay_mult=1.0, flat_decay_mult=1.0, use_no_weight_decay=False),
)
param_scheduler = dict(type="WarmupCosine", min_lr=2e-12, warmup_iters=1000, warmup_lr=2e-5, warmup_scales=True)
train_cfg = dict(type="IterTrainLoop", max_iters=80000, val_interval=4000)
val_cfg = dict(type="ValLoop")
auto_scale_lr = dict(enable=False, base_batch_size=32)
