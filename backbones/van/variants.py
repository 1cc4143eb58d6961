"""Published models and checkpoints, from small to large."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..registry import IMAGENET_MEAN, IMAGENET_STD, PretrainedCfg, register_model
from .model import VAN

__all__ = ["van_b0", "van_b1", "van_b2", "van_b3", "van_b4", "van_b5", "van_b6"]

_VAN = PretrainedCfg(
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    crop_pct=0.9,
    first_conv="stem.proj",
    classifier="head.fc",
    pool_size=(7, 7),
    license="apache-2.0",
    paper="Visual Attention Network",
    paper_url="https://arxiv.org/abs/2202.09741",
    origin_url="https://github.com/Visual-Attention-Network/VAN-Classification",
    verified=False,
    note="The link was not opened. The official README adds: 'For commercial use, please contact the authors'.",
)
_HUB = "https://huggingface.co/Visual-Attention-Network"
_OPENMMLAB = "https://download.openmmlab.com"
_FOLDER = "https://cloud.tsinghua.edu.cn/d/0100f0cea37d41ba8d08/"


def _trained_on_1k(
    name: str, old_name: str, digests: tuple[str, str], params: int, macs: float, top1: float
) -> dict[str, PretrainedCfg]:
    """Returns the configurations of a model trained on ImageNet-1K: the same weights in four forms.

    Args:
        name: Name of the model.
        old_name: The authors' earlier name, without "van-".
        digests: Checksums in the names of OpenMMLab's files for classification and for segmentation.
        params: As in `PretrainedCfg`.
        macs: As in `PretrainedCfg`.
        top1: As in `PretrainedCfg`.
    """
    cfg = replace(_VAN, params=params, macs=macs, top1=top1)
    repository, file = f"VAN-{old_name.title()}-original", f"van_{old_name}_{round(10 * top1)}.pth.tar"
    return {
        f"{name}.in1k": replace(
            cfg,
            url=f"{_HUB}/{repository}/resolve/main/{file}",
            hf_hub_id=f"Visual-Attention-Network/{repository}",
            hf_hub_filename=file,
        ),
        f"{name}.openmmlab_in1k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmclassification/v0/van/van-{old_name}_8xb128_in1k_20220501-{digests[0]}.pth",
            note="OpenMMLab's copy of the official weights under its own names; the link was not opened.",
        ),
        f"{name}.openmmlab_dense_in1k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmsegmentation/v0.5/van_3rdparty/{name.replace('_', '-')}_3rdparty_20230522-"
            f"{digests[1]}.pth",
            note="OpenMMLab's copy of the official weights, to train segmentation from. The link was not opened; "
            "it is not known whether the file has a classifier.",
        ),
        f"{name}.transformers_in1k": replace(
            cfg,
            hf_hub_id=f"Visual-Attention-Network/van-{old_name}",
            note="transformers' port of the official weights; the Hub id is from its conversion script and was not "
            "opened.",
        ),
    }


def _trained_on_22k(
    name: str, digest: str, params: int, macs: tuple[float, float], top1: tuple[float, float]
) -> dict[str, PretrainedCfg]:
    """Returns the configurations of a model trained on ImageNet-22K.

    Args:
        name: Name of the model.
        digest: Checksum in the name of OpenMMLab's file.
        params: As in `PretrainedCfg`.
        macs: Multiply-accumulates at 224x224 and 384x384.
        top1: Accuracy after fine-tuning on ImageNet-1K at 224x224 and 384x384.
    """
    cfg = replace(
        _VAN, mean=IMAGENET_MEAN, std=IMAGENET_STD, crop_pct=0.875, params=params, macs=macs[0]
    )  # from the training script of these models; the authors' model class has 0.5, as for ImageNet-1K
    never = "The accuracy is from the paper; these weights, fine-tuned on ImageNet-1K, were not published."
    return {
        f"{name}.in22k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmsegmentation/v0.5/van_3rdparty/{name.replace('_', '-')}-in22k_3rdparty_20230522-"
            f"{digest}.pth",
            num_classes=21841,
            note=f"OpenMMLab's copy of the authors' file, {name}_22k.pth in {_FOLDER}. The links were "
            "not opened; it is not known whether the copy has a classifier.",
        ),
        f"{name}.in22k_ft_in1k": replace(cfg, top1=top1[0], note=never),
        f"{name}.in22k_ft_in1k_384": replace(
            cfg,
            input_size=(3, 384, 384),
            pool_size=(12, 12),
            crop_pct=1.0,
            crop_mode="squash",
            macs=macs[1],
            top1=top1[1],
            note=never,
        ),
    }


default_cfgs = {
    **_trained_on_1k("van_b0", "tiny", ("385941af", "956f5e0d"), 4105800, 0.8642, 75.4),
    **_trained_on_1k("van_b1", "small", ("17bc91aa", "3adb117f"), 13861800, 2.4953, 81.1),
    **_trained_on_1k("van_b2", "base", ("6a4cc31b", "636fac93"), 26578472, 4.9928, 82.8),
    **_trained_on_1k("van_b3", "large", ("f212ba21", "a184e051"), 44765608, 8.9253, 83.9),
    **_trained_on_22k("van_b4", "5e31cafb", 60283176, (12.1438, 35.6868), (85.7, 86.6)),
    "van_b4.in1k": replace(
        _VAN,
        params=60283176,
        macs=12.1438,
        top1=84.2,
        note=f"There is no direct link: the file is pretrained/van_b4.pth in {_FOLDER}. Download it and pass its "
        "path as checkpoint_path.",
    ),
    **_trained_on_22k("van_b5", "b26134d7", 89967688, (17.1291, 50.3372), (86.3, 87.0)),
    **_trained_on_22k("van_b6", "5e5172a3", 199829416, (38.7101, 113.7588), (86.9, 87.8)),
}


@register_model
def van_b0(**kwargs: Any) -> VAN:
    """Builds VAN-B0, formerly tiny: 4.1 M parameters, 0.9 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 5, 2), "embed_dims": (32, 64, 160, 256), **kwargs})


@register_model
def van_b1(**kwargs: Any) -> VAN:
    """Builds VAN-B1, formerly small: 13.9 M parameters, 2.5 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (2, 2, 4, 2), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b2(**kwargs: Any) -> VAN:
    """Builds VAN-B2, formerly base: 26.6 M parameters, 5.0 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 12, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b3(**kwargs: Any) -> VAN:
    """Builds VAN-B3, formerly large: 44.8 M parameters, 8.9 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 5, 27, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b4(**kwargs: Any) -> VAN:
    """Builds VAN-B4: 60.3 M parameters, 12.1 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 6, 40, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b5(**kwargs: Any) -> VAN:
    """Builds VAN-B5: 90.0 M parameters, 17.1 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 24, 3), "embed_dims": (96, 192, 480, 768), **kwargs})


@register_model
def van_b6(**kwargs: Any) -> VAN:
    """Builds VAN-B6, deeper than B5 and narrower in its third stage: 199.8 M parameters, 38.7 G at 224x224."""
    return VAN(**{"depths": (6, 6, 90, 6), "embed_dims": (96, 192, 384, 768), **kwargs})
