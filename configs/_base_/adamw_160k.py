"""AdamW for 160,000 iterations, a straight line down to 0; 1500 iterations of warm-up on top of it."""

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=6e-5, weight_decay=0.01))
param_scheduler = dict(type="WarmupPoly", power=1.0, warmup_iters=1500, warmup_lr=6e-11, warmup_scales=True)
train_cfg = dict(type="IterTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=16)
