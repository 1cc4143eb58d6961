"""VAN's fine-tuning after ImageNet-22K: AdamW for 30 epochs, cosine schedule, no mixup."""

_base_ = ["imagenet_1k_224.py", "classifier_in1k.py", "adamw_30e_finetune.py", "default_runtime.py"]

model = dict(loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1), mixing=None)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(weight_decay=1e-8), clip_grad=None)
param_scheduler = dict(_delete_=True, type="WarmupCosine", min_lr=1e-6)

train_dataloader = dict(batch_size=32, dataset=dict(transform=dict(interpolation="bicubic")))
