"""ADE20K with 640x640 crops and evaluation at 2560x640, for models pretrained on ImageNet-22K."""

_base_ = ["./ade20k_512.py"]

train_dataloader = dict(dataset=dict(transform=dict(scale=(2560, 640), crop_size=(640, 640))))
val_dataloader = dict(dataset=dict(transform=dict(scale=(2560, 640))))
