"""DiNAT-Large at 384x384 on ImageNet-1K, fine-tuned from ImageNet-22K for 30 epochs.

Paper: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022, https://arxiv.org/abs/2209.15001).
Published: 87.4 % top-1 at 384x384 (200.9 M parameters, 89.5 G multiply-accumulates).
Measured here: not yet.

Command for 8 GPUs (for another total batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/nat/dinat_large_384_8xb64_30e_in1k.py --launcher pytorch

The authors published the learning rate, number of epochs, batch size, weight decay and a "linear" schedule, and that
neither mixup nor CutMix was used. The official training script has no schedule of that name and would keep the learning
rate constant. Here the rate decreases linearly to 5e-6, the script's minimum. It starts from the weights trained at
224x224.
"""

_base_ = [
    "../_base_/imagenet_1k_224.py",
    "../_base_/classifier_in1k.py",
    "../_base_/adamw_30e_finetune.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(type="dinat_large_384", num_classes=1000, drop_path_rate=0.35),
    init_weights="https://shi-labs.com/projects/dinat/checkpoints/imagenet22k/dinat_large_in22k_224.pth",
    loss=dict(_delete_=True, type="CrossEntropy", label_smoothing=0.1),
    mixing=None,
)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-10))
train_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=384)))
val_dataloader = dict(batch_size=64, dataset=dict(transform=dict(size=384, crop_pct=1.0)))
