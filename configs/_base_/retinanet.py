"""RetinaNet (Lin et al., ICCV 2017), as in OpenMMLab's configs; its extra levels come from the backbone's last map."""

model = dict(
    type="SingleStageDetector",
    neck=dict(type="FPN", out_channels=256, start_level=1, add_extra_convs="on_input", num_outs=5),
    bbox_head=dict(type="RetinaHead", num_classes=80),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size_divisor=32),
)
