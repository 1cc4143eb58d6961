custom_hooks = [dict(type='EMAHook', decay=0.9)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, tensorboard=False),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='top1'),
)
default_scope = 'attnzoo'
env_cfg = dict()
experiment_name = 'run_0'
log_level = 'WARNING'
model = dict(type='ToyModel')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.1), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='WarmupCosine', warmup_iters=3, warmup_lr=0.0001, min_lr=0.001)]
randomness = dict(seed=3)
train_cfg = dict(type='EpochTrainLoop', max_epochs=1)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    drop_last=True,
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='EpochSampler'),
)
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=4,
    dataset=dict(type='ToyDataset', length=13, augment=False),
    sampler=dict(type='EvaluationSampler'),
)
val_evaluator = dict(type='ToyAccuracy')
visualizer = dict(type='Visualizer', vis_backends=[dict(type='MLflowVisBackend')])
work_dir = '/tmp/s/resume/real_MLflowVisBackend'
