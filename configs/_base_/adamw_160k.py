"""AdamW for 160,000 iterations, a straight line down to 0; 1500 iterations of warm-up on top of it.

All parameters decay but those with "norm" in their names and tables of positions: as the recipes of Swin and its
successors have it, the batch norms of heads, which are called "bn", do decay, and so do biases and layer scales.
"""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys=dict(norm=dict(decay_mult=0.0)),
    ),
)
param_scheduler = dict(type="WarmupPoly", power=1.0, warmup_iters=1500, warmup_lr=6e-11, warmup_scales=True)
train_cfg = dict(type="IterTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=16)
