"""Tests of the public names of attnzoo, and of the libraries that each part of it requires."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import attnzoo

PREAMBLE = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def __init__(self, names):
        self.names = set(names)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by the test)")

def block(*names):
    assert not set(names) & set(sys.modules), set(names) & set(sys.modules)
    sys.meta_path.insert(0, Block(names))
"""


def run(code: str) -> str:
    """Runs code in a new Python process and returns its output."""
    done = subprocess.run([sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_library() -> None:
    code = "import attnzoo\nprint(sorted({name.partition('.')[0] for name in sys.modules}))"
    imported = run(code)
    for library in ("torch", "timm", "mmengine", "numpy", "albumentations", "cv2", "PIL", "triton"):
        assert f"'{library}'" not in imported


@pytest.mark.parametrize("name", sorted(set(attnzoo.__all__) - {"__version__"}))
def test_public_names_exist(name: str) -> None:
    assert getattr(attnzoo, name) is getattr(attnzoo, name)
    assert name in dir(attnzoo)


def test_type_checking_imports_match_the_lazy_names() -> None:
    """The imports under TYPE_CHECKING agree with the table that __getattr__ uses."""
    source = Path(attnzoo.__file__).read_text(encoding="utf-8")
    assert set(attnzoo._PLACES) | set(attnzoo._PACKAGES) | {"__version__"} == set(attnzoo.__all__)
    namespace: dict[str, object] = {"__name__": "attnzoo", "__package__": "attnzoo"}
    block = source[source.index("if TYPE_CHECKING:") :].partition("\n\n__version__")[0]
    exec(block.replace("if TYPE_CHECKING:", "if True:"), namespace)
    for name in set(attnzoo.__all__) - {"__version__"}:
        assert namespace[name] is getattr(attnzoo, name), name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        attnzoo.create_modle  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue] (the test is that this fails)


def test_version_matches_the_distribution() -> None:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = tomllib.loads(Path(attnzoo.__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))
    assert attnzoo.__version__ == project["project"]["version"]


def test_building_and_loading_a_model_requires_neither_training_nor_image_libraries() -> None:
    run(
        """
block("mmengine", "albumentations", "cv2")
import attnzoo, torch
small = dict(depths=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16), num_heads=(1, 1, 1, 1), kernel_size=3)
model = attnzoo.create_model("nat_mini", num_classes=5, **small)
report = attnzoo.load_weights(model, attnzoo.create_model("nat_mini", num_classes=5, **small).state_dict())
assert report.loaded == len(model.state_dict())
assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
import timm, attnzoo.zoo.timm_models
assert timm.is_model("attnzoo_nat_mini")
"""
    )


def test_kernels_require_only_torch() -> None:
    run(
        """
block("timm", "torchvision", "mmengine", "albumentations", "cv2", "safetensors", "huggingface_hub", "PIL", "matplotlib")
import torch
from attnzoo.kernels import neighborhood_attention_2d
query, key, value = torch.randn(3, 1, 5, 5, 1, 16).unbind(0)
assert neighborhood_attention_2d(query, key, value, 3).shape == (1, 5, 5, 1, 16)
"""
    )


def test_blocked_imports_fail() -> None:
    with pytest.raises(AssertionError, match="blocked by the test"):
        run("block('wave')\nimport wave")
    with pytest.raises(AssertionError, match="AssertionError"):
        run("import wave\nblock('wave')")
