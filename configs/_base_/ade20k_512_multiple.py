"""ADE20K with crops of 512x512 and evaluation at 2048x512, resized once more to multiples of 32 pixels."""

_base_ = ["./ade20k_512.py"]

val_dataloader = dict(dataset=dict(transform=dict(resize_to_multiple=32)))
test_dataloader = dict(dataset=dict(transform=dict(resize_to_multiple=32)))
