"""DaViT's recipe: AdamW for 300 epochs plus 10 cooldown epochs, cosine schedule, gradients clipped to a norm of 1."""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "adamw_300e.py", "default_runtime.py"]

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = dict(warmup_epochs=5, min_lr=1e-5)

train_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.9)))
