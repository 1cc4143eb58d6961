"""timm's ECA-ResNet-50-T on ImageNet-1K, trained from scratch for 600 epochs at 224x224: procedure A1.

Paper: ResNet strikes back: An improved training procedure in timm (Wightman et al., 2021,
https://arxiv.org/abs/2110.00476).
Published: 82.11 % top-1 at 288x288 (25.6 M parameters, 4.3 G multiply-accumulates at 224x224).
Measured here: not yet.

Command for a batch of 2048 on 8 GPUs (for another batch size, add --cfg-options auto_scale_lr.enable=True):
    torchrun --nproc-per-node 8 tools/train.py configs/eca/ecaresnet50t_8xb256_600e_in1k.py --launcher pytorch

In the paper, the targets of both mixed images are 1. Here, every target above 0.2 becomes 1, which is timm's threshold
for this purpose. Because of the threshold, the published label smoothing of 0.1 has no effect. Evaluated at 288x288,
like the published result.
"""

_base_ = ["../_base_/lamb_600e_rsb_a1.py"]

model = dict(backbone=dict(type="ecaresnet50t", num_classes=1000, drop_path_rate=0.05))
val_dataloader = dict(batch_size=128, dataset=dict(transform=dict(size=288, crop_pct=1.0)))
