"""ImageNet-1K at 224x224 with only random crops and flips and bilinear resizing, like early ResNets.

As in PyTorch's example, with which these were trained, the last, incomplete training batch of an epoch is kept.
"""

_base_ = ["imagenet_1k_224.py"]

train_dataloader = dict(
    drop_last=False,
    dataset=dict(transform=dict(interpolation="bilinear", rand_augment=None, color_jitter=None, random_erasing=0.0)),
)
val_dataloader = dict(dataset=dict(transform=dict(interpolation="bilinear")))
