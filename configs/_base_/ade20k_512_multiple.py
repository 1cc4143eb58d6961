"""ADE20K with 512x512 crops; evaluation images are resized to fit 2048x512, then to multiples of 32 pixels."""

_base_ = ["./ade20k_512.py"]

val_dataloader = dict(dataset=dict(transform=dict(resize_to_multiple=32)))
