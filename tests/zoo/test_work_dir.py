"""Reading a work dir: the best and the newest intact checkpoint, class names, logs, results."""

from __future__ import annotations

import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from attnzoo.zoo.training import write_checkpoint
from attnzoo.zoo.weights import CheckpointError
from attnzoo.zoo.work_dir import (
    CHECKPOINT_FORMAT,
    CheckpointAccessError,
    find_best,
    find_latest,
    list_checkpoints,
    read_class_names,
    read_results,
    read_scalars,
    read_training_checkpoint,
)


def write(path: Path, iteration: int) -> None:
    write_checkpoint({"meta": {"iter": iteration}, "state_dict": {"weight": torch.arange(1000.0)}}, path)


def damage(path: Path) -> None:
    """Changes a byte of the weight."""
    content = bytearray(path.read_bytes())
    start = content.find(torch.arange(1000.0).numpy().tobytes())
    assert start > 0
    content[start] ^= 1
    path.write_bytes(content)


def test_finding_the_newest(tmp_path: Path):
    for iteration, name in ((5, "epoch_1.pth"), (12, "iter_12.pth"), (10, "epoch_2.pth"), (10, "best_top1.pth")):
        write(tmp_path / name, iteration)
    torch.save({"model": 1}, tmp_path / "epoch_9.pth")
    assert [meta["iter"] for _, meta in list_checkpoints(tmp_path)[0]] == [12, 10, 10, 5]
    path, found, skipped = find_latest(tmp_path)
    assert path == tmp_path / "iter_12.pth"
    assert found["meta"]["iter"] == 12
    assert "not a training checkpoint" in skipped[tmp_path / "epoch_9.pth"]


def test_the_newest_is_skipped_if_a_byte_is_wrong(tmp_path: Path):
    write(tmp_path / "epoch_1.pth", 5)
    write(tmp_path / "epoch_2.pth", 10)
    damage(tmp_path / "epoch_2.pth")
    path, _, skipped = find_latest(tmp_path)
    assert path == tmp_path / "epoch_1.pth"
    assert "does not match its checksum" in skipped[tmp_path / "epoch_2.pth"]
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        read_training_checkpoint(tmp_path / "epoch_2.pth")
    assert read_training_checkpoint(tmp_path / "epoch_2.pth", verify=False)["meta"]["iter"] == 10


def test_the_best_takes_precedence_over_the_newest(tmp_path: Path):
    write(tmp_path / "epoch_1.pth", 5)
    write(tmp_path / "epoch_2.pth", 10)
    assert find_best(tmp_path) == tmp_path / "epoch_2.pth"
    write(tmp_path / "best_top1.pth", 5)
    assert find_best(tmp_path) == tmp_path / "best_top1.pth"


def test_another_checkpoint_does_not_replace_a_damaged_best_one(tmp_path: Path):
    write(tmp_path / "epoch_1.pth", 5)
    write(tmp_path / "best_top1.pth", 5)
    (tmp_path / "best_top1.pth").write_bytes((tmp_path / "best_top1.pth").read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"best_top1\.pth.*newest intact one is .*epoch_1\.pth"):
        find_best(tmp_path)


def test_no_intact_checkpoint_is_an_error_with_the_reasons(tmp_path: Path):
    with pytest.raises(ValueError, match="no intact checkpoint"):
        find_best(tmp_path)
    (tmp_path / "epoch_1.pth").write_bytes(b"truncated")
    with pytest.raises(ValueError, match=r"no intact checkpoint.*epoch_1\.pth' is neither a safetensors file"):
        find_best(tmp_path)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"format": CHECKPOINT_FORMAT, "meta": {"iter": 1}, "trap": Trap()}, tmp_path / "epoch_1.pth")
    (tmp_path / "epoch_2.pth").write_bytes(pickle.dumps(Trap()))
    path, _, skipped = find_latest(tmp_path)
    assert path is None
    assert len(skipped) == 2
    assert not (tmp_path / "trapped").exists()


def test_class_names(tmp_path: Path):
    assert read_class_names(tmp_path) == ()
    path = tmp_path / "classes.json"
    path.write_text('["häufig", "rare"]', encoding="utf-8")
    assert read_class_names(tmp_path) == ("häufig", "rare")
    path.write_text('{"a": 0}')
    with pytest.raises(ValueError, match="must contain a list of names"):
        read_class_names(tmp_path)
    path.write_text("[")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_class_names(tmp_path)


def test_scalars_without_the_line_that_a_kill_truncated(tmp_path: Path):
    assert read_scalars(tmp_path) == []
    record = {"mode": "train", "epoch": 1, "iter": 1, "loss": 2.0}
    (tmp_path / "scalars.jsonl").write_text(json.dumps(record) + '\n{"mode": "tr')
    assert read_scalars(tmp_path) == [record]


def test_results_are_empty_if_they_cannot_be_read(tmp_path: Path):
    assert read_results(tmp_path) == {}
    (tmp_path / "results.json").write_text("[1]")
    assert read_results(tmp_path) == {}
    (tmp_path / "results.json").write_text('{"model": "nat_mini"}')
    assert read_results(tmp_path) == {"model": "nat_mini"}


def test_a_file_that_may_be_intact_is_not_taken_for_a_damaged_one(tmp_path):
    write_checkpoint({"meta": {"iter": 1}}, tmp_path / "epoch_1.pth")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
    try:
        with pytest.raises(CheckpointAccessError, match="may be intact: Too many open files"):
            read_training_checkpoint(tmp_path / "epoch_1.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with pytest.raises(CheckpointError, match=r"Cannot read .*none\.pth: No such file"):
        read_training_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("meta", [None, {}, {"iter": "1"}, {"iter": -1}, {"iter": True}])
def test_checkpoints_without_a_position_are_listed_as_unreadable(tmp_path, meta):
    torch.save({"format": CHECKPOINT_FORMAT, "meta": meta}, tmp_path / "epoch_1.pth")
    found, unreadable = list_checkpoints(tmp_path)
    assert not found
    assert "meta.iter must be an integer >= 0" in unreadable[tmp_path / "epoch_1.pth"]
