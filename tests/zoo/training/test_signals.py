"""Training saves at the next step boundary after a signal, and reports it with its exit code."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import time
from typing import Any

import pytest
from mmengine.hooks import Hook

from attnzoo.zoo.registry import HOOKS
from attnzoo.zoo.training import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted, read_scalars
from attnzoo.zoo.training.signals import StopRequest, shield_worker
from attnzoo.zoo.work_dir import find_latest
from support.training_toy import build, run_in_child, same, toy_config


def stopping(work_dir, at, what, during_validation=False, **changes):
    config = toy_config(work_dir, **changes)
    config["custom_hooks"].append({"type": "FaultHook", "at": at, "what": what, "during_validation": during_validation})
    return config


def train(config):
    build(config).train()


def states(*work_dirs):
    found = []
    for work_dir in work_dirs:
        state = find_latest(work_dir)[1]
        state["meta"].pop("time")
        found.append(state)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(toy_config(folder))
    return folder


@pytest.mark.parametrize(
    ("what", "code"),
    [("term", EXIT_PREEMPTED), ("hangup", EXIT_PREEMPTED), ("interrupt", EXIT_INTERRUPTED)],
    ids=["SIGTERM", "SIGHUP", "SIGINT"],
)
def test_saves_after_the_step_and_resumes_bit_equal(tmp_path, uninterrupted, what, code):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="--resume") as stopped:
        train(stopping(tmp_path, 7, what))
    assert stopped.value.code == code
    assert signal.getsignal(signal.SIGTERM) is before
    # The checkpoint includes the step that was running.
    assert (tmp_path / "iter_8.pth").exists()
    assert (tmp_path / "last_checkpoint").read_text() == "iter_8.pth\n"
    train(toy_config(tmp_path, resume=True))
    ours, theirs = states(tmp_path, uninterrupted)
    # Only the iteration of the last checkpoint may differ.
    assert not same(ours, theirs)
    assert not same(read_scalars(tmp_path), read_scalars(uninterrupted))


def test_the_exit_code_of_the_process_and_workers_that_get_the_signal_too(tmp_path, uninterrupted):
    config = stopping(tmp_path, 7, "term_group", train_dataloader__num_workers=2)
    assert run_in_child(lambda: train(config), own_group=True).wait() == EXIT_PREEMPTED
    assert (tmp_path / "iter_8.pth").exists()
    train(toy_config(tmp_path, resume=True))
    ours, theirs = states(tmp_path, uninterrupted)
    assert not same(ours, theirs)


def test_waits_for_the_end_of_gradient_accumulation(tmp_path):
    with pytest.raises(Preempted):
        train(stopping(tmp_path, 6, "term", optim_wrapper__accumulative_counts=3))
    # An epoch of five batches has windows of 3 and 2. Iteration 6 is the second of epoch 2.
    assert (tmp_path / "iter_8.pth").exists()


def test_stops_in_an_evaluation_and_makes_it_up(tmp_path, uninterrupted):
    checkpoint = {"type": "CheckpointHook", "interval": -1, "save_best": "top1"}
    with pytest.raises(Preempted):
        train(stopping(tmp_path, 10, "term", during_validation=True, default_hooks__checkpoint=checkpoint))
    assert find_latest(tmp_path)[1]["meta"]["validation_pending"]
    train(toy_config(tmp_path, resume=True))
    assert not same(read_scalars(tmp_path), read_scalars(uninterrupted))


def test_a_signal_in_the_last_step_lets_training_finish(tmp_path):
    config = stopping(tmp_path, 14, "term", val_dataloader=None, val_cfg=None, val_evaluator=None)
    config["default_hooks"]["checkpoint"]["save_best"] = None
    train(config)
    assert (tmp_path / "epoch_3.pth").exists()


@HOOKS.register_module()
class CloseTerminalHook(Hook):
    """Closes the other end of the terminal before iteration 7, upon which the kernel sends SIGHUP."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == 7:
            os.close(self.terminal)


def test_a_closed_terminal_saves_although_log_and_progress_bar_cannot_be_written(tmp_path):
    def child():
        terminal, own = os.openpty()
        os.setsid()
        fcntl.ioctl(own, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(own, descriptor)
        os.close(own)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
        config = toy_config(tmp_path, log_level="INFO")
        config["custom_hooks"].append({"type": "CloseTerminalHook", "terminal": terminal})
        train(config)

    assert run_in_child(child).wait() == EXIT_PREEMPTED
    assert (tmp_path / "iter_8.pth").exists()


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest() as request:
            signal.raise_signal(signal.SIGHUP)
            assert request.received is None
            signal.raise_signal(signal.SIGTERM)
            assert request.received == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


def test_second_interrupt_is_immediate():
    with StopRequest() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_workers_obey_their_parent_alone():
    ready, done = os.pipe()

    def worker():
        shield_worker()
        os.write(done, b"x")
        time.sleep(60)

    child = run_in_child(worker)
    os.read(ready, 1)
    # From another process: ignored.
    assert run_in_child(lambda: os.kill(child.pid, signal.SIGTERM)).wait() == 0
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGHUP)
    time.sleep(0.2)
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 0
