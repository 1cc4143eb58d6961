import json
import logging
import types

import pytest

from attnzoo.zoo.data import BrokenImagesHook
from attnzoo.zoo.data.common import broken_images


@pytest.fixture
def runner(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    return types.SimpleNamespace(work_dir=str(tmp_path), epoch=0, logger=logging.getLogger("test-broken-images"))


def run_epoch(hook, runner, batches):
    hook.before_train_epoch(runner)
    for number, paths in enumerate(batches):
        hook.after_train_iter(runner, number, {"image": None, "broken": paths}, {})
    hook.after_train_epoch(runner)


def test_an_epochs_broken_images_are_logged_and_written(runner, caplog, tmp_path):
    hook = BrokenImagesHook()
    run_epoch(hook, runner, [["a.jpg"], [], ["a.jpg", "b.jpg"]])
    assert "Epoch 1: 3 broken images were replaced by others (2 files: a.jpg, b.jpg)" in caplog.text
    runner.epoch = 1
    run_epoch(hook, runner, [["c.jpg"]])
    assert json.loads((tmp_path / "broken_images.json").read_text()) == [
        {"epoch": 1, "count": 3, "paths": {"a.jpg": 2, "b.jpg": 1}},
        {"epoch": 2, "count": 1, "paths": {"c.jpg": 1}},
    ]


def test_a_repeated_epoch_replaces_its_entry(runner, tmp_path):
    for epoch, paths in [(0, ["a.jpg"]), (1, ["b.jpg"]), (0, ["c.jpg"])]:
        runner.epoch = epoch
        run_epoch(BrokenImagesHook(), runner, [paths])
    entries = json.loads((tmp_path / "broken_images.json").read_text())
    assert entries == [{"epoch": 1, "count": 1, "paths": {"c.jpg": 1}}]


@pytest.mark.parametrize(
    "content", [b"", b"[{", b"\xff", b"7", b'["a"]', b'[{"epoch": "1"}]', b"[" * 10**5, b'{"epoch": 1}']
)
def test_a_damaged_file_is_replaced_with_a_warning(runner, caplog, tmp_path, content):
    (tmp_path / "broken_images.json").write_bytes(content)
    run_epoch(BrokenImagesHook(), runner, [["a.jpg"]])
    assert "broken_images.json is damaged and will be replaced" in caplog.text
    entries = json.loads((tmp_path / "broken_images.json").read_text())
    assert entries == [{"epoch": 1, "count": 1, "paths": {"a.jpg": 1}}]


def test_no_file_is_written_without_broken_images(runner, caplog, tmp_path):
    run_epoch(BrokenImagesHook(), runner, [[], []])
    assert not caplog.text
    assert not list(tmp_path.iterdir())


def test_counts_of_all_processes_are_summed_and_the_main_process_writes(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(broken_images, "all_gather_object", lambda own: [own, ["a.jpg", "z.jpg"]])
    run_epoch(BrokenImagesHook("lost.json"), runner, [["a.jpg"]])
    (entry,) = json.loads((tmp_path / "lost.json").read_text())
    assert entry == {"epoch": 1, "count": 3, "paths": {"a.jpg": 2, "z.jpg": 1}}
    (tmp_path / "lost.json").unlink()
    monkeypatch.setattr(broken_images, "is_main_process", lambda: False)
    run_epoch(BrokenImagesHook("lost.json"), runner, [["a.jpg"]])
    assert not (tmp_path / "lost.json").exists()
