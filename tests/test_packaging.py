"""Tests that pyproject.toml lists all packages, and that the wheel works outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import attnzoo

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
_NOT_PACKAGES = {"tests", "build", "dist", "work_dirs", "data"}


def _packages_in_the_tree() -> set[str]:
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {Path(line).parent for line in tracked.splitlines()}
    return {
        ".".join(("attnzoo", *folder.parts))
        for folder in folders
        if not folder.parts or folder.parts[0] not in _NOT_PACKAGES
    }


def test_all_packages_are_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == _packages_in_the_tree()


@pytest.fixture(scope="module")
def unpacked_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel and unpacks it. The source is a copy of the tracked files, because setuptools writes to it."""
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("attnzoo-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_wheel_has_one_top_level_package(unpacked_wheel: Path):
    assert {path.name for path in unpacked_wheel.iterdir() if not path.name.endswith(".dist-info")} == {"attnzoo"}


def test_wheel_is_typed_and_described(unpacked_wheel: Path):
    assert (unpacked_wheel / "attnzoo" / "py.typed").is_file()
    (info,) = unpacked_wheel.glob("*.dist-info")
    metadata = (info / "METADATA").read_text()
    for line in ("Author: attnzoo contributors", "License-Expression: Apache-2.0", "Classifier: Typing :: Typed"):
        assert line in metadata, line


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == attnzoo.__version__
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_wheel_works_outside_the_checkout(unpacked_wheel: Path, tmp_path: Path):
    code = (
        "import attnzoo, torch\n"
        "from attnzoo.tools.cli import main\n"
        f"assert attnzoo.__file__.startswith({str(unpacked_wheel)!r}), attnzoo.__file__\n"
        "model = attnzoo.create_model('nat_mini', num_classes=3).eval()\n"
        "assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)\n"
        "from attnzoo.zoo.config import load_config\n"
        "assert load_config('nat_digits').model.type == 'Classifier'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked_wheel)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
