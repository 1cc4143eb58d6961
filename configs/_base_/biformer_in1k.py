"""BiFormer's recipe, from DeiT: AdamW for 300 epochs, 5 of them warm-up, repeated augmentation, averaged weights.

The learning rate is updated once per epoch. The published accuracy and the best checkpoint are those of the model
without averaging ("raw_top1").
"""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "adamw_300e.py", "default_runtime.py"]

optim_wrapper = dict(clip_grad=None)
param_scheduler = dict(warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=0, by_epoch=True)
train_cfg = dict(max_epochs=300)

train_dataloader = dict(
    sampler=dict(num_repeats=3),
    dataset=dict(transform=dict(interpolation="bicubic")),
)

custom_hooks = [dict(type="EMAHook", decay=0.99996, evaluate_raw=True)]
default_hooks = dict(checkpoint=dict(save_best="raw_top1"))
