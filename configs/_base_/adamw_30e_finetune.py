"""AdamW for 30 epochs with a small, linearly decreasing learning rate, for a batch of 512."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="WarmupLinear", min_lr=5e-6)
auto_scale_lr = dict(enable=False, base_batch_size=512)

train_cfg = dict(type="EpochTrainLoop", max_epochs=30, val_interval=1)
val_cfg = dict(type="ValLoop")
