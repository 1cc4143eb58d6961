"""Training of HaloNet H0 to H7 as outlined in the paper: long schedule, RandAugment, stochastic depth, smoothing.

The paper has no code, and its exact settings were not available: the values are those that were common for such
networks (SGD with Nesterov momentum, a learning rate of 0.1 per 256 images, cosine schedule, 350 epochs, batch of
4096).
"""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "default_runtime.py"]

model = dict(
    loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1),
    mixing=None,
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(transform=dict(rand_augment="rand-n2-m15-mstd0.5", random_erasing=0.0)),
)

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="SGD", lr=1.6, momentum=0.9, nesterov=True, weight_decay=8e-5),
)
param_scheduler = dict(type="WarmupCosine", warmup_epochs=10)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
custom_hooks = [dict(type="EMAHook", decay=0.9999)]

train_cfg = dict(type="EpochTrainLoop", max_epochs=350, val_interval=1)
val_cfg = dict(type="ValLoop")
