"""Distributed training: starting the process group on GPUs or CPUs, and small collective operations."""

from __future__ import annotations

import atexit
import datetime
import os
import subprocess

import torch
import torch.distributed as dist

from ...deprecated_paths import renamed_names
from ...names import unknown_name

LAUNCHERS = ("none", "pytorch", "slurm")


def init_distributed(launcher: str, backend: str = "auto", timeout: float | None = None, port: int = 29500) -> None:
    """Starts the process group of a launcher.

    Args:
        launcher: "pytorch" (torchrun: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the environment) or
            "slurm" (srun, one task per GPU: SLURM_PROCID, SLURM_LOCALID, SLURM_NTASKS, SLURM_NODELIST).
        backend: "nccl", "gloo", or "auto" for nccl if there is a GPU, else gloo.
        timeout: Timeout of collective operations in seconds; by default that of torch.
        port: Port on the first node for "slurm", unless MASTER_PORT is set.

    Raises:
        ValueError: The launcher or backend is unknown, or environment variables of the launcher are missing.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(unknown_name("launcher", launcher, LAUNCHERS))
    if backend not in ("auto", "nccl", "gloo"):
        raise ValueError(unknown_name("backend of env_cfg.dist_cfg", backend, ("auto", "nccl", "gloo")))
    if launcher == "slurm":
        _set_slurm_environment(port)
    missing = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]
    if missing:
        raise ValueError(
            f"launcher={launcher!r}, but the environment has no {', '.join(missing)}: use "
            f"{'srun' if launcher == 'slurm' else 'torchrun'}, or launcher='none'."
        )
    has_gpu = torch.cuda.is_available()
    if backend == "nccl" and not has_gpu:
        raise ValueError("The nccl backend needs a GPU; use backend='gloo' or 'auto'.")
    if has_gpu:
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        ("nccl" if has_gpu else "gloo") if backend == "auto" else backend,
        timeout=None if timeout is None else datetime.timedelta(seconds=timeout),
    )
    atexit.register(_destroy_group)


def _set_slurm_environment(port: int) -> None:
    try:
        os.environ["RANK"] = os.environ["SLURM_PROCID"]
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
        os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
        nodes = os.environ["SLURM_NODELIST"]
    except KeyError as error:
        raise ValueError(f"launcher='slurm', but the environment has no {error}: use srun.") from None
    os.environ.setdefault("MASTER_PORT", str(port))
    if "MASTER_ADDR" not in os.environ:
        try:
            hosts = subprocess.run(
                ["scontrol", "show", "hostnames", nodes], check=True, capture_output=True, text=True
            ).stdout.split()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ValueError(f"scontrol cannot resolve SLURM_NODELIST={nodes!r} ({error}); set MASTER_ADDR.") from None
        os.environ["MASTER_ADDR"] = hosts[0]


def _destroy_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def local_rank() -> int:
    """Returns the rank of this process on its machine, 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", 0))


def is_distributed() -> bool:
    """Returns whether there are several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_main_process() -> bool:
    """Returns whether this is process 0."""
    return not is_distributed() or dist.get_rank() == 0


def any_process(flag: bool | torch.Tensor) -> bool:
    """Returns in every process whether the flag is set in any of them; all processes must call this."""
    if not is_distributed():
        return bool(flag)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.as_tensor(flag).to(device=device, dtype=torch.int32)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def gather_objects(value: object) -> list:
    """Returns the values of all processes, by rank; all processes must call this."""
    if not is_distributed():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Copies the buffers of process 0, such as BatchNorm's running statistics, to all processes."""
    if is_distributed():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


__getattr__ = renamed_names(__name__, {"several_processes": "is_distributed"})
