"""Recipe of the agent transformers from scratch: AdamW for 300 epochs, 20 of them warm-up, for a batch of 1024.

The published commands train in float32; `tools/train.py --amp` trains in mixed precision. As in the official code,
evaluation images are resized to a square of 256 / 224 of the input size, ignoring the aspect ratio, and then cropped.
"""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "adamw_300e.py", "default_runtime.py"]

optim_wrapper = dict(type="OptimWrapper")
param_scheduler = dict(warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=0)
train_cfg = dict(max_epochs=300)

train_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
val_dataloader = dict(dataset=dict(transform=dict(crop_mode="squash")))
