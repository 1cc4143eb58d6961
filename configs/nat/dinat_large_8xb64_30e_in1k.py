"""DiNAT-Large on ImageNet-1K, fine-tuned from ImageNet-22K for 30 epochs.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 86.6 % top-1 at 224x224 (200.9 M parameters, 30.5 G multiply-accumulates).
Measured here: not measured.

Made for 8 GPUs; with another total batch, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_large_8xb64_30e_in1k.py --launcher pytorch

Published are the rate, epochs, batch, weight decay, "linear" schedule, and no mixup or CutMix. The official training
script knows no schedule of that name and would keep the rate; here it falls in a straight line to 5e-6, that script's
least rate.
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/adamw_30e_finetune.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_large", num_classes=1000, drop_path_rate=0.35),
    init_weights="https://shi-labs.com/projects/dinat/checkpoints/imagenet22k/dinat_large_in22k_224.pth",
    loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1),
    mixing=None,
)
train_dataloader = dict(batch_size=64)
