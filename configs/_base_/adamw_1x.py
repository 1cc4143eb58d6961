"""AdamW for 12 epochs: learning rate divided by 10 after epochs 8 and 11, 500 warm-up iterations.

Weight decay applies to all parameters except position tables and those with "norm" in their names. As in the recipes of
Swin and its successors, the heads' batch norms, which are named "bn", biases and layer scales do decay.
"""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys=dict(norm=dict(decay_mult=0.0)),
    ),
)
param_scheduler = dict(type="WarmupMultiStep", milestones=(8, 11), warmup_iters=500, warmup_lr=1e-7)
train_cfg = dict(type="EpochTrainLoop", max_epochs=12)
val_cfg = dict(type="ValLoop")
auto_scale_lr = dict(enable=False, base_batch_size=16)
