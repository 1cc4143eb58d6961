"""Semantic FPN (Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019), as in mmsegmentation's configs."""

model = dict(
    type="Segmentor",
    neck=dict(type="FPN", out_channels=256, num_outs=4),
    decode_head=dict(type="FPNHead", num_classes=150),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), train_size=(512, 512)),
)

sync_bn = True
