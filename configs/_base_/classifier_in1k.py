"""ImageNet-1K classifier with mixup or CutMix on every batch, and label smoothing."""

model = dict(
    type="Classifier",
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    loss=dict(type="SoftTargetCrossEntropy"),
    mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1),
)
