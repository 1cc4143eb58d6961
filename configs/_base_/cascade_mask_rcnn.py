"""Cascade Mask R-CNN with four-convolution box heads and GIoU loss, as used by Swin and its successors.

From Cai and Vasconcelos, CVPR 2018; the heads follow Liu et al., Swin Transformer, ICCV 2021. Boxes are scaled to the
original image before non-maximum suppression, as in mmdet 2, with which the published results were measured.
"""

model = dict(
    type="TwoStageDetector",
    neck=dict(type="FPN", out_channels=256, num_outs=5),
    rpn_head=dict(
        type="RPNHead",
        bbox_loss="smooth_l1",
        smooth_l1_beta=1 / 9,
        allowed_border=0,
        train_proposals=dict(nms_pre=2000, max_per_img=2000),
    ),
    roi_head=dict(
        type="CascadeRoIHead",
        num_classes=80,
        bbox_head=dict(
            num_shared_convs=4,
            num_shared_fcs=1,
            norm="BN",
            class_agnostic=False,
            bbox_loss="giou",
            loss_weights=(1.0, 10.0),
        ),
        mask_head=dict(),
        test=dict(rescale_before_nms=True),
    ),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size_divisor=32),
)

sync_bn = True
