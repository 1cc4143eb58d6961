"""Import paths and names from before modules were moved and names changed: they work, with a DeprecationWarning.

There is no file for `import attnzoo.zoo.reports.curves` any more. The finder below, which Python asks last, builds a
module of that name whose attributes are those of the modules that replaced it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "backbones.blocks": ("backbones.common.blocks",),
    "backbones.channel_attention": ("backbones.common.channel_attention",),
    "backbones.convolution": ("backbones.common.conv", "backbones.common.fast_paths"),
    "backbones.layers": (
        "backbones.common.backbone",
        "backbones.common.blocks",
        "backbones.common.checkpoints",
        "backbones.common.checks",
        "backbones.common.features",
        "backbones.common.head",
        "backbones.common.init",
        "backbones.common.padding",
    ),
    "backbones.linear": ("backbones.common.linear", "backbones.common.fast_paths"),
    "kernels.neighborhood.chunks": ("kernels.neighborhood.operands", "kernels.neighborhood.cpu.tiles"),
    "kernels.neighborhood.flash": ("kernels.neighborhood.cpu.sdpa",),
    "kernels.neighborhood.fused.additional": ("kernels.neighborhood.fused.backward_additional",),
    "kernels.neighborhood.fused.backward_pass": ("kernels.neighborhood.fused.backward",),
    "kernels.neighborhood.fused.bias": (
        "kernels.neighborhood.fused.backward_bias",
        "kernels.neighborhood.fused.padded_bias",
    ),
    "kernels.neighborhood.fused.forward_pass": ("kernels.neighborhood.fused.forward",),
    "kernels.neighborhood.fused.keys": ("kernels.neighborhood.fused.backward_dkv",),
    "kernels.neighborhood.fused.lanes": (
        "kernels.triton_common.addressing",
        "kernels.triton_common.softmax",
        "kernels.neighborhood.fused.addressing",
    ),
    "kernels.neighborhood.fused.launch": ("kernels.triton_common.launch",),
    "kernels.neighborhood.fused.tiles": ("kernels.neighborhood.fused.plan",),
    "kernels.neighborhood.fused.tuning": ("kernels.neighborhood.fused.tile_sizes",),
    "kernels.neighborhood.plain": ("kernels.neighborhood.exportable",),
    "kernels.neighborhood.portable": ("kernels.neighborhood.cpu.attention",),
    "kernels.neighborhood.tables": ("kernels.neighborhood.geometry",),
    "kernels.neighborhood.tiling": ("kernels.neighborhood.cpu.tiling",),
    "kernels.routing.fused.backward_pass": ("kernels.routing.fused.backward",),
    "kernels.routing.fused.forward_pass": ("kernels.routing.fused.forward",),
    "kernels.routing.fused.places": ("kernels.routing.fused.addressing",),
    "kernels.routing.fused.tuning": ("kernels.routing.fused.tile_sizes",),
    "kernels.routing.plain": ("kernels.routing.exportable",),
    "kernels.routing.portable": ("kernels.routing.cpu.attention", "kernels.routing.cpu.parts"),
    "kernels.routing.regions": ("kernels.routing.geometry",),
    "tools.attention_baselines": ("tools.benchmarking.attention_baselines",),
    "tools.attention_problems": ("tools.benchmarking.operations",),
    "tools.made_folder": ("zoo.data.examples.folder",),
    "tools.measuring": ("zoo.analysis.timing",),
    "tools.model_baselines": ("tools.benchmarking.model_baselines",),
    "zoo.config.data_consistency": ("zoo.config.consistency", "zoo.config.parts"),
    "tools.opening": ("tools.arguments", "zoo.model_loading"),
    "zoo.data.ade20k": ("zoo.data.segmentation.ade20k",),
    "zoo.data.albumentations_pipeline": ("zoo.data.common.albumentations",),
    "zoo.data.annotated_image": ("zoo.data.detection.annotated_image",),
    "zoo.data.batch_samplers": ("zoo.data.common.batch_samplers",),
    "zoo.data.broken_images": ("zoo.data.common.broken_images",),
    "zoo.data.checks": ("zoo.data.detection.checks", "zoo.data.common.checks"),
    "zoo.data.coco": ("zoo.data.detection.coco",),
    "zoo.data.coco_annotations": ("zoo.data.formats.coco",),
    "zoo.data.collate": ("zoo.data.common.collate",),
    "zoo.data.decoding": ("zoo.data.common.decoding",),
    "zoo.data.detection_albumentations": ("zoo.data.detection.albumentations",),
    "zoo.data.detection_transforms": ("zoo.data.detection.transforms",),
    "zoo.data.detection_views": ("zoo.data.detection.views",),
    "zoo.data.label_maps": ("zoo.data.segmentation.label_maps",),
    "zoo.data.photometric": ("zoo.data.common.photometric",),
    "zoo.data.replacement": ("zoo.data.common.dataset",),
    "zoo.data.resizing": ("zoo.data.common.resizing", "zoo.data.common.arguments"),
    "zoo.data.samplers": ("zoo.data.common.samplers",),
    "zoo.data.segmentation_albumentations": ("zoo.data.segmentation.albumentations",),
    "zoo.data.segmentation_checks": ("zoo.data.segmentation.dataset", "zoo.data.common.checks"),
    "zoo.data.segmentation_sets": ("zoo.data.segmentation.folders",),
    "zoo.data.segmentation_transforms": ("zoo.data.segmentation.transforms",),
    "zoo.data.sources": ("zoo.data.classification.sources", "zoo.data.common.class_maps"),
    "zoo.data.transforms": ("zoo.data.classification.transforms",),
    "zoo.evaluation.detection_files": ("zoo.evaluation.detection_writer",),
    "zoo.evaluation.gathering": ("zoo.evaluation.base",),
    "zoo.evaluation.predictions": ("zoo.evaluation.prediction_writer",),
    "zoo.evaluation.segmentation_files": ("zoo.evaluation.segmentation_writer",),
    "zoo.export.checking": ("zoo.export.report", "zoo.export.tracing", "zoo.export.verification"),
    "zoo.export.programs": ("zoo.export.program",),
    "zoo.inference.drawing": ("zoo.plots.drawing", "zoo.plots.canvas", "zoo.plots.colors", "zoo.plots.fonts"),
    "zoo.reports.activation_maps": ("zoo.analysis.activation_maps", "zoo.analysis.blocks"),
    "zoo.reports.attention_maps": (
        "zoo.analysis.attention_maps",
        "zoo.analysis.attention_calls",
        "zoo.analysis.blocks",
    ),
    "zoo.reports.browsing": ("zoo.plots.samples", "zoo.analysis.samples"),
    "zoo.reports.catalogue": ("zoo.plots.catalog", "zoo.analysis.catalog"),
    "zoo.reports.comparison": ("zoo.plots.comparison", "zoo.analysis.comparison"),
    "zoo.reports.confusion": ("zoo.plots.confusion", "zoo.analysis.confusion", "zoo.plots.tables"),
    "zoo.reports.curves": ("zoo.plots.curves", "zoo.analysis.training_logs"),
    "zoo.reports.detection_confusion": ("zoo.analysis.detection_confusion",),
    "zoo.reports.flops": ("zoo.analysis.flops", "zoo.plots.tables"),
    "zoo.reports.labels": ("zoo.plots.labels",),
    "zoo.reports.log_analysis": ("zoo.plots.curves", "zoo.analysis.training_logs", "zoo.plots.tables"),
    "zoo.reports.looking_inside": (
        "zoo.plots.attention",
        "zoo.plots.activations",
        "zoo.plots.view",
        "zoo.analysis.blocks",
    ),
    "zoo.reports.overlays": ("zoo.plots.overlays",),
    "zoo.reports.predictions": ("zoo.plots.predictions", "zoo.analysis.predictions"),
    "zoo.reports.summary": ("zoo.analysis.summary",),
    "zoo.reports": (),
    "zoo.training.guards": ("zoo.training.nonfinite",),
    "zoo.training.optim": ("zoo.training.optim_wrappers", "zoo.training.optim_constructor"),
    "zoo.training.placement": ("zoo.training.model_setup",),
}
"""For each old module the modules that hold its names now, all relative to the package; none for an empty package."""


def renamed_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Builds the `__getattr__` of a module some of whose names have changed.

        __getattr__ = renamed_names(__name__, {"OldName": "NewName"})

    Args:
        module: Name of the module.
        names: Maps each old name to the new one: a name that the module defines, or a dotted path relative to the
            package, such as "zoo.work_dir.find_best".
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        owner, _, attribute = names[name].rpartition(".")
        new = f"{__package__}.{names[name]}" if owner else attribute
        warnings.warn(f"{module}.{name} is now called {new}.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(f"{__package__}.{owner}") if owner else sys.modules[module], attribute)

    return __getattr__


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and builds stand-ins for the modules in `MOVED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=not MOVED[name])

    def exec_module(self, module: ModuleType) -> None:
        replacements = [f"{__package__}.{name}" for name in MOVED[module.__name__.partition(".")[2]]]
        if not replacements:
            return

        def __getattr__(name: str) -> Any:
            for replacement in map(importlib.import_module, replacements):
                if hasattr(replacement, name):
                    return getattr(replacement, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = __getattr__  # pyright: ignore[reportAttributeAccessIssue]
        warnings.warn(
            f"{module.__name__} has moved: import from {' or '.join(replacements)} instead.",
            DeprecationWarning,
            stacklevel=2,
        )


sys.meta_path.append(_MovedModuleFinder())
