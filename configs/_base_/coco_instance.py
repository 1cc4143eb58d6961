"""COCO 2017 boxes and masks: images resized to 1333x800 and randomly flipped.

The data folder is data/coco, or the value of the environment variable COCO, and contains train2017/, val2017/ and
annotations/instances_*2017.json. The batch size is per process; the recipes use 8 processes.
"""

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    collate_fn=dict(type="dense_collate"),
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="EpochSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDetection",
        root="{{$COCO:data/coco}}",
        split="train2017",
        transform=dict(type="DetectionTrain", mode="single-scale"),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    collate_fn=dict(type="dense_collate"),
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(
        type="CocoDetection",
        root="{{$COCO:data/coco}}",
        split="val2017",
        transform=dict(type="DetectionTest", scale=(1333, 800)),
    ),
)

val_evaluator = dict(type="CocoMetric", iou_types=("bbox", "segm"))
