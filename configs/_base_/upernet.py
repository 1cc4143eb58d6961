"""UPerNet (Xiao et al., ECCV 2018) with an auxiliary FCN head for training, as in mmsegmentation's configs."""

model = dict(
    type="Segmentor",
    decode_head=dict(type="UPerHead", num_classes=150),
    auxiliary_head=dict(type="FCNHead", num_classes=150, in_index=2, num_convs=1, concat_input=False, loss_weight=0.4),
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), train_size=(512, 512)),
)

sync_bn = True
