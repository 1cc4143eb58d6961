"""AdamW for 40,000 iterations: polynomial schedule of power 0.9, weight decay for all parameters."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=1.0, bias_decay_mult=1.0, flat_decay_mult=1.0, use_no_weight_decay=False),
)
param_scheduler = dict(type="WarmupPoly", power=0.9)
train_cfg = dict(type="IterTrainLoop", max_iters=40000, val_interval=4000)
val_cfg = dict(type="ValLoop")
auto_scale_lr = dict(enable=False, base_batch_size=32)
