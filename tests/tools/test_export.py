"""Exported files compute what PyTorch does, in torch's own operators, or they are not written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo import create_model, list_families, list_models
from attnzoo.tools import export
from attnzoo.zoo.export import ExportError, checking, export_onnx, export_program, exportable
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import Classifier, ExportPart

onnxruntime = pytest.importorskip("onnxruntime")

# The smallest body of each family that has its attention, and the side of its images in pixels.
TINY: dict[str, tuple[str, dict[str, Any], int]] = {
    "agent": ("agent_deit_tiny", {"embed_dim": 24, "depths": (1, 1, 1, 1), "agent_blocks": (1, 1, 1, 1),
                                  "num_agents": (4, 4, 4, 4), "img_size": 64}, 64),
    "biformer": ("biformer_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "topks": (1, 2),
                                   "num_regions": 2}, 32),
    "davit": ("davit_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "window_size": 3}, 32),
    "eca": ("eca_resnet18", {"depths": (1, 1), "planes": (8, 16), "k_size": 3}, 32),
    "halonet": ("halonet26t", {"blocks": ("ch", "h"), "embed_dims": (32, 64), "hidden_dims": (8, 16),
                               "num_heads": (2, 2), "block_size": 4, "halo_size": 1}, 32),
    "metaformer": ("metaformer_micro", {"depths": (1, 1), "embed_dims": (32, 64)}, 32),
    "nat": ("dinat_mini", {"depths": (1, 2), "embed_dims": (16, 32), "num_heads": (1, 2), "kernel_size": 3,
                           "dilations": ((1,), (1, 2))}, 32),
    "van": ("van_b0", {"depths": (1, 1), "embed_dims": (8, 16), "mlp_ratios": (2, 2)}, 32),
}  # fmt: skip


def tiny(family: str, **kwargs: Any) -> nn.Module:
    name, arguments, _ = TINY[family]
    torch.manual_seed(0)
    return create_model(name, **{"num_classes": 5, **arguments, **kwargs}).eval()


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def test_every_family_has_a_tiny_model():
    assert sorted(TINY) == list_families()


SLOW_TO_CONVERT = ("biformer", "davit", "halonet")


def families(*names: str, slow: tuple[str, ...] = SLOW_TO_CONVERT) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


@pytest.mark.parametrize("family", families(*TINY))
def test_a_tiny_model_of_each_family_goes_through_onnx(family: str, tmp_path: Path):
    model, side = tiny(family), TINY[family][2]
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (side, side))
    assert report.error < 1e-5
    assert (report.outputs, report.dynamic) == (("logits",), ("batch",))
    images = torch.randn(5, 3, side, side, generator=torch.Generator().manual_seed(3))
    (logits,) = session(report.path).run(["logits"], {"image": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_feature_maps_are_named_after_their_places(tmp_path: Path):
    model = tiny("metaformer", features_only=True, stem_stride=4)
    report = export_onnx(exportable(model), tmp_path / "maps.onnx", (36, 40), metadata={"note": "tiny"})
    assert report.outputs == ("map0", "map1")
    opened = session(report.path)
    shapes = {one.name: one.shape for one in [*opened.get_inputs(), *opened.get_outputs()]}
    assert shapes == {"image": ["batch", 3, 36, 40], "map0": ["batch", 32, 9, 10], "map1": ["batch", 64, 5, 5]}
    assert opened.get_modelmeta().custom_metadata_map["note"] == "tiny"


@pytest.mark.parametrize("family", families("van", "metaformer", "eca", "biformer", slow=("van", "eca", "biformer")))
def test_bodies_without_tables_take_any_size(family: str, tmp_path: Path):
    model = tiny(family, features_only=True)
    report = export_program(exportable(model), tmp_path / "maps.pt2", (64, 128), dynamic_size=True)
    assert report.dynamic == ("batch", "height", "width")
    assert len({shape[2:] for shape in report.checked}) > 1
    program = torch.export.load(report.path).module()
    images = torch.randn(3, 3, 160, 96)
    with torch.no_grad():
        for one, other in zip(program(images), model(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["nat", "halonet", "davit"])
def test_tables_of_one_size_refuse_free_sizes(family: str, tmp_path: Path):
    part = exportable(tiny(family))
    for to_file in (export_onnx, export_program):
        with pytest.raises(ExportError, match="tables for one size of map"):
            to_file(part, tmp_path / "model", (32, 32), dynamic_size=True)
    assert not list(tmp_path.iterdir())


def test_a_program_opens_without_attnzoo(tmp_path: Path):
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


def test_pixels_can_be_normalised_inside(tmp_path: Path):
    model = tiny("metaformer")
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    path = export_onnx(exportable(model, "whole", mean, std), tmp_path / "model.onnx", (32, 32)).path
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    (logits,) = session(path).run(None, {"image": pixels.numpy()})
    normalised = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(normalised), rtol=1e-4, atol=1e-5)


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there")
    part = exportable(tiny("metaformer"))
    with pytest.raises(ExportError, match=r"differs from PyTorch in logits by .* so it was not kept"):
        export_onnx(part, path, (32, 32), tolerance=0.0)
    assert path.read_bytes() == b"what was there"

    def broken(*_: Any) -> float:
        raise OSError("no space left on device")

    monkeypatch.setattr("attnzoo.zoo.export.onnx.largest_error", broken)
    with pytest.raises(OSError, match="no space"):
        export_onnx(part, path, (32, 32))
    assert path.read_bytes() == b"what was there"
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


def test_a_wrong_shape_and_a_runtime_that_fails_are_told():
    part = exportable(tiny("metaformer"))
    for run, message in (
        (lambda images: [torch.zeros(1, 5)], r"gives logits the shape \(1, 5\)"),
        (lambda images: [images / (1 // 0)], "does not run on images of the shape .*by zero"),
        (lambda images: [torch.full((2, 5), torch.nan)], "differs from PyTorch in logits by nan"),
    ):
        with pytest.raises(ExportError, match=message):
            checking.largest_error(part, run, [(2, 3, 32, 32)], ["logits"], 1e-4, pixels=False)


def test_large_models_keep_their_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("attnzoo.zoo.export.onnx._LARGEST_FILE", 1000)
    model = tiny("metaformer")
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (32, 32))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert report.bytes == sum(one.stat().st_size for one in tmp_path.iterdir())
    images = torch.randn(1, 3, 32, 32)
    (logits,) = session(report.path).run(None, {"image": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-5)


class TestTool:
    def test_a_model_by_name(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        out = tmp_path / "micro.onnx"
        assert export.main(["metaformer_micro", "--num-classes", "3", "--out", str(out), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["path"], report["outputs"]) == (str(out), ["logits"])
        assert report["error"] < 1e-4
        about = session(out).get_modelmeta().custom_metadata_map
        assert about["attnzoo.model"] == "metaformer_micro"
        assert json.loads(about["attnzoo.image_size"]) == [32, 32]
        assert json.loads(about["attnzoo.mean"]) == [0.485, 0.456, 0.406]

    def test_a_config_with_its_checkpoint(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        torch.manual_seed(1)
        depths = "model.backbone.depths=1,1,1"
        weights = create_model("nat_mini", depths=(1, 1, 1), embed_dims=(32, 64, 96), num_heads=(1, 2, 3),
                               kernel_size=3, stem_stride=2, num_classes=10)  # fmt: skip
        torch.save(weights.state_dict(), tmp_path / "weights.pth")
        out = tmp_path / "digits.pt2"
        argv = ["nat_digits", "--weights", str(tmp_path / "weights.pth"), "--out", str(out), "--normalise"]
        assert export.main([*argv, "--cfg-options", depths]) == 0
        assert "digits.pt2: logits (torch.export" in capsys.readouterr().out
        images = torch.rand(2, 3, 32, 32) * 255
        (logits,) = torch.export.load(out).module()(images)
        expected = weights.eval()((images / 255 - 0.5) / 0.5)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["nat_mimi"], "Did you mean"),
            (["nat_mini", "--out", "model.pb"], "must end with .onnx or .pt2"),
            (["nat_mini", "--out", "model.pt2", "--format", "onnx"], "must end with .onnx."),
            (["metaformer_micro", "--part", "rpn"], "is a backbone and has no 'rpn'"),
            (["metaformer_micro", "--size", "1", "2", "3"], "--size is one number of pixels or two"),
            (["metaformer_micro", "--cfg-options", "a=1"], "settings of a config"),
            (["nat_digits", "--pretrained"], "belong to a model's name"),
        ],
    )
    def test_mistakes_are_one_line(self, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]):
        assert export.main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error

    def test_out_indices_need_feature_maps(self):
        with pytest.raises(SystemExit):
            export.main(["nat_mini", "--out-indices", "1"])


def on_meta(name: str, **kwargs: Any) -> Any:
    with torch.device("meta"):
        return create_model(name, **kwargs).eval()


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
def test_the_forms_are_those_that_there_are():
    assert sorted(smallest_of_each_form()) == sorted(FORMS)


@pytest.mark.slow
@pytest.mark.parametrize("maps", [False, True], ids=["logits", "maps"])
@pytest.mark.parametrize("name", FORMS)
def test_the_smallest_of_each_form_goes_through_onnx(name: str, maps: bool, tmp_path: Path):
    torch.manual_seed(0)
    model: Any = create_model(name, num_classes=None if maps else 5, features_only=maps).eval()
    least = max(64, getattr(model, "body", model).min_input_size)
    report = export_onnx(exportable(model), tmp_path / "model.onnx", (least, least))
    assert report.error < 1e-4
    assert len(report.outputs) == (len(model.out_indices) if maps else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_is_traced_to_torchs_own_operators(name: str):
    model = on_meta(name)
    size = max(64, model.min_input_size)
    program = checking.trace(exportable(model), torch.empty(2, 3, size, size, device="meta"), True, False)
    namespaces = {node.target.namespace for node in program.graph.nodes if hasattr(node.target, "namespace")}
    assert "aten" in namespaces
    assert "attnzoo" not in namespaces


BODY = {"type": "metaformer_micro", "features_only": True, "depths": (1, 1), "embed_dims": (32, 64), "stem_stride": 4}
NECK = {"type": "FPN", "out_channels": 16, "num_outs": 2}
DENSE: dict[str, dict[str, Any]] = {
    "semantic_fpn": {
        "type": "Segmentor",
        "backbone": BODY,
        "neck": NECK,
        "decode_head": {"type": "FPNHead", "in_index": (0, 1), "feature_strides": (4, 8), "channels": 8,
                        "num_classes": 3},
    },
    "upernet": {
        "type": "Segmentor",
        "backbone": BODY,
        "decode_head": {"type": "UPerHead", "in_index": (0, 1), "pool_scales": (1, 2), "channels": 8,
                        "num_classes": 3},
        "auxiliary_head": {"type": "FCNHead", "in_index": 1, "channels": 8, "num_convs": 1, "concat_input": False,
                           "num_classes": 3},
    },
    "retinanet": {
        "type": "SingleStageDetector",
        "backbone": BODY,
        "neck": {**NECK, "num_outs": 3, "add_extra_convs": "on_input"},
        "bbox_head": {"type": "RetinaHead", "num_classes": 3, "in_channels": 16, "feat_channels": 16,
                      "stacked_convs": 1, "anchor_generator": {"strides": (4, 8, 16)}},
    },
}  # fmt: skip
MASK_RCNN = {
    "type": "TwoStageDetector",
    "backbone": BODY,
    "neck": NECK,
    "rpn_head": {"type": "RPNHead", "in_channels": 16, "feat_channels": 16,
                 "anchor_generator": {"strides": (4, 8), "scales": (4,)}},
    "roi_head": {"type": "StandardRoIHead", "num_classes": 3, "in_channels": 16, "strides": (4, 8),
                 "bbox_head": {"fc_channels": 24}},
}  # fmt: skip


def dense(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    task = MODELS.build(copy.deepcopy(config)).eval()
    for module in task.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that do something
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
    return task


class TestTasks:
    @pytest.mark.parametrize("kind", families(*DENSE, slow=("upernet",)))
    def test_maps_of_segmentors_and_single_stage_detectors(self, kind: str, tmp_path: Path):
        task = dense(DENSE[kind])
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

    def test_parts(self):
        images = torch.randn(2, 3, 64, 64)
        two_stage, segmentor = dense(MASK_RCNN), dense(DENSE["semantic_fpn"])
        with pytest.raises(ExportError, match=r"non-maximum suppression.*part='rpn'.*part='neck'.*part='backbone'"):
            exportable(two_stage)
        levels = ["cls_scores0", "cls_scores1", "bbox_preds0", "bbox_preds1"]
        assert exportable(two_stage, "rpn").output_names(images) == levels
        assert exportable(two_stage, "neck").output_names(images) == ["map0", "map1"]
        assert exportable(two_stage, "backbone").output_names(images) == ["map0", "map1"]
        (logits,) = exportable(segmentor)(images)
        torch.testing.assert_close(logits, segmentor.decode_head(segmentor.features(images)))
        with pytest.raises(ExportError, match=r"Segmentor has no 'rpn'\. What can be exported of it: .*part='whole'"):
            exportable(segmentor, "rpn")
        with pytest.raises(ValueError, match=r"There is no part 'nek'\. Did you mean 'neck'"):
            exportable(segmentor, "nek")
        assert exportable(tiny("van", num_classes=0)).output_names(images) == ["features"]
        with pytest.raises(ExportError, match="is a backbone and has no 'neck'"):
            exportable(tiny("van"), "neck")
        segmentor.neck = None
        with pytest.raises(ExportError, match="has no 'neck'"):
            exportable(segmentor, "neck")

    def test_a_task_from_outside_names_its_own_parts(self):
        class Pooled(Classifier):
            def export_parts(self) -> dict[str, ExportPart]:
                run = lambda task, image: task.backbone.forward_features(image).mean((2, 3))  # noqa: E731
                return {**super().export_parts(), "embedding": ExportPart(run, ("embedding",), "pooled features")}

        task = Pooled(tiny("metaformer"))
        images = torch.randn(2, 3, 32, 32)
        assert exportable(task).output_names(images) == ["logits"]
        (embedding,) = exportable(task, "embedding")(images)
        torch.testing.assert_close(embedding, task.backbone.forward_features(images).mean((2, 3)))

    def test_two_stages_refuse_and_their_maps_do_not(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        path = tmp_path / "detector.py"
        path.write_text(f"model = {MASK_RCNN!r}\n")
        argv = [str(path), "--size", "64", "--out", str(tmp_path / "rpn.pt2")]
        assert export.main(argv) == 2
        assert "What can be exported of it: part='rpn'" in capsys.readouterr().err
        assert export.main([*argv, "--part", "rpn", "--dynamic-size"]) == 0
        assert "cls_scores0, cls_scores1, bbox_preds0, bbox_preds1" in capsys.readouterr().out
        maps = torch.export.load(tmp_path / "rpn.pt2").module()(torch.randn(1, 3, 96, 128))
        assert [tuple(one.shape) for one in maps] == [(1, 3, 24, 32), (1, 3, 12, 16), (1, 12, 24, 32), (1, 12, 12, 16)]
