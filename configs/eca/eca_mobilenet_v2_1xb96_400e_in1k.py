"""ECA-MobileNetV2 on ImageNet-1K, trained from scratch for 400 epochs.

Paper: ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks (Wang et al., CVPR 2020,
https://arxiv.org/abs/1910.03151).
Published: 72.56 % top-1 at 224x224 (3.5 M parameters, 0.3 G multiply-accumulates).
Measured here: not yet.

Command for a batch of 96 on one GPU (for another batch size, add --cfg-options auto_scale_lr.enable=True):
    python tools/train.py configs/eca/eca_mobilenet_v2_1xb96_400e_in1k.py

The learning rate is multiplied by 0.98 after every epoch. The paper computes the kernel sizes of the gates from the
number of channels; the repository's checkpoint and accuracy are for 1 below 96 channels and 3 otherwise.
"""

_base_ = [
    "../_base_/imagenet_1k_224_plain.py",
    "../_base_/sgd_100e_step.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="Classifier",
    backbone=dict(type="eca_mobilenet_v2", num_classes=1000, drop_rate=0.25),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    loss=dict(type="CrossEntropy"),
)
optim_wrapper = dict(optimizer=dict(lr=0.045, weight_decay=4e-5))
param_scheduler = dict(decay_rate=0.98, decay_epochs=1)
auto_scale_lr = dict(base_batch_size=96)
train_cfg = dict(max_epochs=400)
train_dataloader = dict(batch_size=96)
