"""ONNX files compute what PyTorch does, or they are not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attnzoo import create_model, list_families, list_models
from attnzoo.zoo.export import ExportError, export_onnx, exportable

from .models import DENSE, TINY, build_task, families, on_meta, session, tiny

pytest.importorskip("onnxruntime")


def test_every_family_has_a_tiny_model():
    assert sorted(TINY) == list_families()


@pytest.mark.parametrize("family", families(*TINY))
def test_a_tiny_model_of_each_family_is_exported(family: str, tmp_path: Path):
    model, side = tiny(family), TINY[family][2]
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (side, side))
    assert report.error < 1e-5
    assert (report.outputs, report.dynamic) == (("logits",), ("batch",))
    images = torch.randn(5, 3, side, side, generator=torch.Generator().manual_seed(3))
    (logits,) = session(report.path).run(["logits"], {"image": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_feature_maps_are_numbered(tmp_path: Path):
    model = tiny("metaformer", features_only=True, stem_stride=4)
    report = export_onnx(exportable(model), tmp_path / "maps.onnx", (36, 40), metadata={"note": "tiny"})
    assert report.outputs == ("map0", "map1")
    opened = session(report.path)
    shapes = {one.name: one.shape for one in [*opened.get_inputs(), *opened.get_outputs()]}
    assert shapes == {"image": ["batch", 3, 36, 40], "map0": ["batch", 32, 9, 10], "map1": ["batch", 64, 5, 5]}
    assert opened.get_modelmeta().custom_metadata_map["note"] == "tiny"


def test_pixels_can_be_normalized_in_the_file(tmp_path: Path):
    model = tiny("metaformer")
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    path = export_onnx(exportable(model, "whole", mean, std), tmp_path / "model.onnx", (32, 32)).path
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    (logits,) = session(path).run(None, {"image": pixels.numpy()})
    normalized = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(normalized), rtol=1e-4, atol=1e-5)


def test_a_file_that_differs_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"previous")
    part = exportable(tiny("metaformer"))
    with pytest.raises(ExportError, match=r"differs from PyTorch in logits by .* so it was discarded"):
        export_onnx(part, path, (32, 32), tolerance=0.0)
    assert path.read_bytes() == b"previous"

    def broken(*_: Any) -> float:
        raise OSError("no space left on device")

    monkeypatch.setattr("attnzoo.zoo.export.onnx.largest_error", broken)
    with pytest.raises(OSError, match="no space"):
        export_onnx(part, path, (32, 32))
    assert path.read_bytes() == b"previous"
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_of_large_models_are_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("attnzoo.zoo.export.onnx._MAX_EMBEDDED_BYTES", 1000)
    model = tiny("metaformer")
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (32, 32))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert report.bytes == sum(one.stat().st_size for one in tmp_path.iterdir())
    images = torch.randn(1, 3, 32, 32)
    (logits,) = session(report.path).run(None, {"image": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-5)


def smallest_of_each_form() -> list[str]:
    """Names the smallest model of each set of kinds of modules that a family's models are made of."""
    forms: dict[tuple[str, frozenset[str]], list[tuple[int, str]]] = {}
    for family in list_families():
        for name in list_models(family=family):
            model = on_meta(name)
            kinds = frozenset(type(module).__qualname__ for module in model.modules())
            size = sum(parameter.numel() for parameter in model.parameters())
            forms.setdefault((family, kinds), []).append((size, name))
    return [min(models)[1] for models in forms.values()]


FORMS = (
    "agent_cswin_tiny", "agent_deit_base", "agent_deit_tiny", "agent_pvt_tiny", "agent_swin_tiny", "biformer_tiny",
    "biformer_stl", "davit_tiny", "eca_mobilenet_v2", "eca_resnet18", "ecaresnext26t_32x4d", "eca_halonext26ts",
    "halo2botnet50ts_256", "halonet26t", "halonet50ts", "halonet_h0", "halonet_h1_timm", "haloregnetz_b",
    "lamhalobotnet50ts_256", "metaformer_micro", "metaformer_s12", "nat_small", "dinat_isotropic_small", "dinat_mini",
    "dinat_s_tiny", "vitrpb_small", "van_b0",
)  # fmt: skip


@pytest.mark.slow
def test_the_list_of_forms_is_complete():
    assert sorted(smallest_of_each_form()) == sorted(FORMS)


@pytest.mark.slow
@pytest.mark.parametrize("maps", [False, True], ids=["logits", "maps"])
@pytest.mark.parametrize("name", FORMS)
def test_the_smallest_model_of_each_form_is_exported(name: str, maps: bool, tmp_path: Path):
    torch.manual_seed(0)
    model: Any = create_model(name, num_classes=None if maps else 5, features_only=maps).eval()
    least = max(64, getattr(model, "body", model).min_input_size)
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (least, least))
    assert report.error < 1e-4
    assert len(report.outputs) == (len(model.out_indices) if maps else 1)


@pytest.mark.parametrize("kind", families(*DENSE, slow=("upernet",)))
def test_segmentors_and_single_stage_detectors_are_exported(kind: str, tmp_path: Path):
    task = build_task(DENSE[kind])
    report = export_onnx(exportable(task), tmp_path / "task.onnx", (64, 96))
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        expected = task(images, mode="tensor")
    if kind == "retinanet":
        assert report.outputs == (*(f"cls_scores{i}" for i in range(3)), *(f"bbox_preds{i}" for i in range(3)))
        expected = [one for maps in expected for one in maps]
    else:
        assert report.outputs == ("logits",)
        expected = [expected]
    given = session(report.path).run(list(report.outputs), {"image": images.numpy()})
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-4)
