"""ImageNet-1K at 224x224 with only random crops and flips and bilinear resizing, like early ResNets."""

_base_ = ["imagenet_1k_224.py"]

train_dataloader = dict(
    dataset=dict(transform=dict(interpolation="bilinear", rand_augment=None, color_jitter=None, random_erasing=0.0))
)
val_dataloader = dict(dataset=dict(transform=dict(interpolation="bilinear")))
test_dataloader = val_dataloader
