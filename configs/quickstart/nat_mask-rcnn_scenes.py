"""Small NAT with Mask R-CNN on scenes of real handwritten digits; trains in minutes on two CPU cores.

Paper: Mask R-CNN (He et al., ICCV 2017, https://arxiv.org/abs/1703.06870) on a Neighborhood Attention Transformer
(Hassani et al., CVPR 2023, https://arxiv.org/abs/2204.07143), both with fewer and narrower layers. This combination is
not published.
Published: nothing.
Measured here: 96.6 % box AP50 and 95.7 % mask AP50 (78.8 and 77.1 over all thresholds) on the 100 validation scenes
after 3 epochs; scenes, training, test and plots took 7.5 minutes on two cores of an AMD EPYC.

    python tools/make_scenes.py
    python tools/train.py configs/quickstart/nat_mask-rcnn_scenes.py --work-dir work_dirs/quickstart_detect
    python tools/test.py nat_mask-rcnn_scenes work_dirs/quickstart_detect --work-dir work_dirs/quickstart_detect
"""

_base_ = ["../_base_/scenes.py"]

model = dict(
    type="TwoStageDetector",
    backbone=dict(
        type="nat_mini",
        features_only=True,
        depths=(1, 2, 2),
        embed_dims=(32, 64, 128),
        num_heads=(1, 2, 4),
        kernel_size=7,
        drop_path_rate=0.0,
    ),
    neck=dict(type="FPN", out_channels=64, num_outs=3),
    # Objects are 10 to 42 pixels large, hence anchors of 16, 32 and 64 pixels.
    rpn_head=dict(
        type="RPNHead",
        feat_channels=64,
        anchor_generator=dict(strides=(4, 8, 16), scales=(4,)),
        sampler=dict(num=128, pos_fraction=0.5),
        train_proposals=dict(nms_pre=500, max_per_img=200),
        test_proposals=dict(nms_pre=200, max_per_img=100),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        num_classes=10,
        strides=(4, 8, 16),
        bbox_head=dict(fc_channels=256),
        mask_head=dict(num_convs=2, conv_channels=64),
        sampler=dict(num=64, pos_fraction=0.25),
    ),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size_divisor=32),
)

train_dataloader = dict(
    dataset=dict(
        type="CocoDetection",
        root="data/scenes",
        split="train",
        # No horizontal flips: a mirrored digit is a different digit or none.
        transform=dict(type="DetectionTrain", scales=((128, 128),), flip=0.0),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CocoDetection",
        root="data/scenes",
        split="val",
        transform=dict(type="DetectionTest", scale=(128, 128)),
    ),
)
val_evaluator = dict(type="CocoMetric", iou_types=("bbox", "segm"))

train_cfg = dict(max_epochs=3)
default_hooks = dict(checkpoint=dict(save_best="segm_mAP"))
