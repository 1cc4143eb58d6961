"""AdamW for 300 epochs plus 10 cooldown epochs: cosine schedule, 20 warm-up epochs, batch of 1024."""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="WarmupCosine", warmup_epochs=20, warmup_lr=1e-6, min_lr=5e-6, cooldown_epochs=10)
auto_scale_lr = dict(enable=False, base_batch_size=1024)

train_cfg = dict(type="EpochTrainLoop", max_epochs=310, val_interval=1)
val_cfg = dict(type="ValLoop")
