"""Defaults of all runs: log every 50 iterations, keep the three newest checkpoints and the best one, fixed seed."""

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=3, save_best="top1"),
)
custom_hooks = []

randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=True)
log_level = "INFO"
load_from = None
resume = False
