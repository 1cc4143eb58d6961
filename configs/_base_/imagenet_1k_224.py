"""ImageNet-1K at 224x224: the usual augmentation for training, resizing and center crop for evaluation.

The data folder is data/imagenet, or the value of the environment variable IMAGENET, and contains train/<wnid>/*.JPEG
and val/<wnid>/*.JPEG (or train.tar and val.tar). The batch size is per process. As in timm and DeiT, the last,
incomplete training batch of an epoch is dropped.
"""

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    collate_fn=dict(type="classification_collate"),
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(
        type="ImageClassificationDataset",
        root="{{$IMAGENET:data/imagenet}}",
        split="train",
        class_map="imagenet-1k",
        transform=dict(
            type="ImageNetTrain",
            size=224,
            interpolation="random",
            rand_augment="rand-m9-mstd0.5-inc1",
            color_jitter=0.4,
            random_erasing=0.25,
        ),
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    collate_fn=dict(type="classification_collate"),
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(
        type="ImageClassificationDataset",
        root="{{$IMAGENET:data/imagenet}}",
        split="val",
        class_map="imagenet-1k",
        transform=dict(type="Evaluation", size=224, crop_pct=0.875, interpolation="bicubic"),
    ),
)

val_evaluator = dict(type="Accuracy", topk=(1, 5))
