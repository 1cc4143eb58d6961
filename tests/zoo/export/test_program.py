"""torch.export programs compute what PyTorch does, without attnzoo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnzoo.zoo.export import export_program, exportable

from .models import families, tiny


@pytest.mark.parametrize("family", families("van", "metaformer", "eca", "biformer", slow=("van", "eca", "biformer")))
def test_backbones_without_tables_accept_any_size(family: str, tmp_path: Path):
    model = tiny(family, features_only=True)
    report = export_program(exportable(model), tmp_path / "maps.pt2", (64, 128), dynamic_size=True)
    assert report.dynamic == ("batch", "height", "width")
    assert len({shape[2:] for shape in report.checked}) > 1
    program = torch.export.load(report.path).module()
    images = torch.randn(3, 3, 160, 96)
    with torch.no_grad():
        for one, other in zip(program(images), model(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_program_runs_without_attnzoo(tmp_path: Path):
    model = tiny("nat")
    path = export_program(exportable(model), tmp_path / "nat.pt2", (32, 32)).path
    images = torch.randn(2, 3, 32, 32)
    torch.save((images, model(images).detach()), tmp_path / "pair.pt")
    code = (
        "import sys, torch; sys.modules['attnzoo'] = None\n"
        f"images, logits = torch.load({str(tmp_path / 'pair.pt')!r})\n"
        f"out, = torch.export.load({str(path)!r}).module()(images)\n"
        "torch.testing.assert_close(out, logits)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
