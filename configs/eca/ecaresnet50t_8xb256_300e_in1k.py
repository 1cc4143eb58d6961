"""timm's ECA-ResNet-50-T on ImageNet-1K, from scratch, 300 epochs at 224x224: procedure A2.

Paper: ResNet strikes back: An improved training procedure in timm (Wightman et al., 2021,
    https://arxiv.org/abs/2110.00476).
Published: 81.682 % top-1 at 288x288 (25.6 M parameters, 4.3 G multiply-accumulates at 224x224).
Measured here: not measured.

Made for a batch of 2048, here on 8 GPUs; with another, set auto_scale_lr.enable=True:
    torchrun --nproc-per-node 8 tools/train.py configs/eca/ecaresnet50t_8xb256_300e_in1k.py --launcher pytorch

The paper lets the target of both images of a mixture be 1; here that is every target over 0.2, the threshold that timm
has for it.
Evaluated at 288x288, as the published figure is.
"""

_base_ = ["../_base_/lamb_600e_rsb_a1.py"]

model = dict(
    backbone=dict(type="ecaresnet50t", num_classes=1000, drop_path_rate=0.05),
    mixing=dict(mixup_alpha=0.1, label_smoothing=0.0),
)
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=288, crop_pct=1.0)))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(weight_decay=0.02))
train_cfg = dict(max_epochs=300)
