"""Mask R-CNN with a feature pyramid (He et al., ICCV 2017), as in mmdetection's configs.

Boxes are scaled to the original image before non-maximum suppression, as in mmdet 2, with which the published results
were measured.
"""

model = dict(
    type="TwoStageDetector",
    neck=dict(type="FPN", out_channels=256, num_outs=5),
    rpn_head=dict(type="RPNHead"),
    roi_head=dict(
        type="StandardRoIHead",
        num_classes=80,
        bbox_head=dict(),
        mask_head=dict(),
        test=dict(rescale_before_nms=True),
    ),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size_divisor=32),
)
