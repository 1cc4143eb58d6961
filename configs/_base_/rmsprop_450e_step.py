"""TensorFlow's RMSprop for 450 epochs: step schedule, averaged weights, batch of 256.

These are the values of timm's published command for EfficientNet-B2 with RandAugment, from which the recipes RA2 and
RA3 evolved. Momentum, alpha and warm-up are the defaults of timm's training script.
"""

_base_ = ["default_runtime.py"]

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="RMSpropTF", lr=0.016, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-5),
)
param_scheduler = dict(
    type="WarmupStep", decay_rate=0.97, decay_epochs=2.4, warmup_epochs=5, warmup_lr=1e-6, by_epoch=True
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
custom_hooks = [dict(type="EMAHook", decay=0.9999)]

train_cfg = dict(type="EpochTrainLoop", max_epochs=450, val_interval=1)
val_cfg = dict(type="ValLoop")
