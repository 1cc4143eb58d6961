"""ECA-ResNet-50 on ImageNet-1K, trained from scratch for 100 epochs.

Paper: ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks (Wang et al., CVPR 2020,
https://arxiv.org/abs/1910.03151).
Published: 77.42 % top-1 at 224x224 (25.6 M parameters, 4.1 G multiply-accumulates).
Measured here: not yet.

Command for a batch of 256 on 8 GPUs (for another batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/eca/eca_resnet50_8xb32_100e_in1k.py --launcher pytorch

These are the settings of the official repository. The paper computes the kernel sizes of the gates from the number of
channels (5, 5, 5, 7 in the four stages); the repository's checkpoint and accuracy are for 3, 5, 5, 7.
"""

_base_ = [
    "../_base_/imagenet_1k_224_plain.py",
    "../_base_/sgd_100e_step.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="Classifier",
    backbone=dict(type="eca_resnet50", num_classes=1000),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    loss=dict(type="CrossEntropy"),
)
train_dataloader = dict(batch_size=32)
