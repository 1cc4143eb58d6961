"""ADE20K with random resizing, 512x512 crops, flips and photometric distortion; evaluation at 2048x512.

The data folder is data/ade/ADEChallengeData2016, or the value of the environment variable ADE20K, and contains images/
and annotations/. The batch size is per process; the recipes use 8 processes.
"""

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    collate_fn=dict(type="dense_collate"),
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        type="ADE20K",
        root="{{$ADE20K:data/ade/ADEChallengeData2016}}",
        split="training",
        transform=dict(type="SegmentationTrain", scale=(2048, 512), crop_size=(512, 512)),
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
        type="ADE20K",
        root="{{$ADE20K:data/ade/ADEChallengeData2016}}",
        split="validation",
        transform=dict(type="SegmentationTest", scale=(2048, 512)),
    ),
)

val_evaluator = dict(type="MeanIoU")
