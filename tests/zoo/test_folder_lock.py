"""Two processes cannot write into the same folder at the same time."""

from __future__ import annotations

import errno
import json
import os
import signal

import pytest

from attnzoo.zoo import folder_lock
from attnzoo.zoo.folder_lock import FolderInUse, FolderLock
from support.locks import lock_in_another_process


def lock(folder):
    return FolderLock(folder, ".lock", "Choose another folder.")


def test_another_process_is_named_and_its_death_releases_the_lock(tmp_path):
    with lock_in_another_process(tmp_path, ".lock") as holder:
        message = rf"{tmp_path} is in use by process {holder.pid} on .*, which started 2.* Choose another folder\."
        with pytest.raises(FolderInUse, match=message):
            lock(tmp_path).__enter__()
    with lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_one_process_cannot_lock_a_folder_twice(tmp_path):
    with lock(tmp_path / "new"):
        with pytest.raises(FolderInUse, match=str(os.getpid())):
            lock(tmp_path / "new").__enter__()
        with FolderLock(tmp_path / "new", ".other", ""):
            pass
    assert not list((tmp_path / "new").iterdir())
    with lock(tmp_path / "new"):
        pass


def test_a_lock_file_that_is_removed_while_it_is_opened(tmp_path, monkeypatch):
    flock, calls = folder_lock.fcntl.flock, []

    def remove_first(descriptor, operation):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr(folder_lock.fcntl, "flock", remove_first)
    with lock(tmp_path), pytest.raises(FolderInUse):
        lock(tmp_path).__enter__()


def test_children_of_a_killed_process_do_not_keep_its_lock(tmp_path):
    ready, done = os.pipe()
    holder = os.fork()
    if not holder:
        signal.alarm(60)
        with lock(tmp_path):
            child = os.fork()  # as data loader workers, which may live for some seconds after their parent
            if not child:
                os.write(done, str(os.getpid()).encode())
            signal.pause()
        os._exit(1)
    child = int(os.read(ready, 10))
    with pytest.raises(FolderInUse, match=f"process {holder} on"):
        lock(tmp_path).__enter__()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with lock(tmp_path):
            os.kill(child, 0)  # it still lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked"), lock(tmp_path):
        pass
