"""Procedure A1 of "ResNet strikes back": LAMB for 600 epochs, binary cross entropy, batch of 2048."""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "default_runtime.py"]

model = dict(
    loss=dict(type="BinaryCrossEntropy", target_threshold=0.2),
    mixing=dict(mixup_alpha=0.2, cutmix_alpha=1.0, label_smoothing=0.1),
)
train_dataloader = dict(
    batch_size=256,
    sampler=dict(num_repeats=3),
    dataset=dict(transform=dict(rand_augment="rand-m7-mstd0.5-inc1", random_erasing=0.0)),
)
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.95)))

optim_wrapper = dict(
    type="AmpOptimWrapper", optimizer=dict(type="LAMB", lr=5e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)
)
param_scheduler = dict(type="WarmupCosine", warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-6)
auto_scale_lr = dict(enable=False, base_batch_size=2048)

train_cfg = dict(type="EpochTrainLoop", max_epochs=600, val_interval=1)
val_cfg = dict(type="ValLoop")
