"""RetinaNet (Lin et al., ICCV 2017), as in mmdetection; the extra levels are computed from the last backbone map.

The backbone returns only the maps of strides 8, 16 and 32, since a norm of the finest map would get no gradients.
"""

model = dict(
    type="SingleStageDetector",
    backbone=dict(features_only=True, out_indices=(1, 2, 3)),
    neck=dict(type="FPN", out_channels=256, add_extra_convs="on_input", num_outs=5),
    bbox_head=dict(type="RetinaHead", num_classes=80),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size_divisor=32),
)
