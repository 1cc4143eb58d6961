"""Import paths that modules had before they were moved."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from attnzoo.deprecated_paths import MOVED, renamed_names

MODULES = sorted(name for name, replacements in MOVED.items() if replacements and not name.startswith("kernels."))


@pytest.mark.parametrize("name", MODULES)
def test_an_old_path_warns_and_offers_what_its_replacement_has(name: str) -> None:
    sys.modules.pop(f"attnzoo.{name}", None)
    with pytest.warns(DeprecationWarning, match=f"attnzoo.{name} has moved"):
        old = importlib.import_module(f"attnzoo.{name}")
    for replacement in (importlib.import_module(f"attnzoo.{new}") for new in MOVED[name]):
        defined = [
            key for key, value in vars(replacement).items() if getattr(value, "__module__", "") == replacement.__name__
        ]
        assert all(getattr(old, key) is getattr(replacement, key) for key in defined)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        old.no_such_name  # noqa: B018


def test_names_are_importable_from_old_paths() -> None:
    code = (
        "from attnzoo.zoo.data.panoptic import CocoPanopticSemantic\n"
        "from attnzoo.zoo.data.detection_transforms import DetectionTrain\n"
        "from attnzoo.zoo.reports.curves import LearningCurve\n"
        "from attnzoo.backbones.layers import Backbone, check_heads\n"
        "import attnzoo.zoo.data.detection.transforms as new\n"
        "assert DetectionTrain is new.DetectionTrain\n"
    )
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "attnzoo.zoo.reports.curves has moved: import from attnzoo.zoo.plots.curves or" in run.stderr


def test_the_package_reports_modules_that_never_existed() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        importlib.import_module("attnzoo.zoo.no_such_module")


def test_a_renamed_name_warns_and_is_the_new_one() -> None:
    lookup = renamed_names("attnzoo.deprecated_paths", {"OLD_TABLE": "MOVED"})
    with pytest.warns(DeprecationWarning, match="attnzoo.deprecated_paths.OLD_TABLE is now called MOVED"):
        assert lookup("OLD_TABLE") is MOVED
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        lookup("other")
