"""VAN's recipe from scratch: images normalized with 0.5, AdamW for 300 epochs plus 10 cooldown epochs."""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "adamw_300e.py", "default_runtime.py"]

_mean, _std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

model = dict(data_preprocessor=dict(mean=_mean, std=_std))
optim_wrapper = dict(clip_grad=None)
param_scheduler = dict(warmup_epochs=5, min_lr=1e-6)

train_dataloader = dict(dataset=dict(transform=dict(mean=_mean, std=_std)))
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.9, mean=_mean)))
