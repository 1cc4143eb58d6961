"""SGD for 100 epochs: learning rate divided by 10 every 30 epochs, weight decay for all parameters, batch of 256."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=1.0, bias_decay_mult=1.0, flat_decay_mult=1.0),
)
param_scheduler = dict(type="WarmupStep", decay_rate=0.1, decay_epochs=30, by_epoch=True)
auto_scale_lr = dict(enable=False, base_batch_size=256)

train_cfg = dict(type="EpochTrainLoop", max_epochs=100, val_interval=1)
val_cfg = dict(type="ValLoop")
