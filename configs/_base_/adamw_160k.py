"""AdamW for 160,000 iterations: learning rate decreasing linearly to 0, multiplied by a warm-up of 1500 iterations.

Weight decay applies to all parameters except position tables and those with "norm" in their names. As in the recipes of
Swin and its successors, the heads' batch norms, which are named "bn", biases and layer scales do decay.
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
auto_scale_lr = dict(enable=False, base_batch_size=16)
