"""Detectors and segmentors with NAT, DiNAT and DiNAT_s, by the authors."""

from __future__ import annotations

from .entries import Checkpoint, register_checkpoint

# Documents as read: detection/NAT.md and segmentation/NAT.md at 4dd9aa2, detection/DiNAT.md at 8c9deb6,
# segmentation/DiNAT.md at b63986b.
_SOURCE = "SHI-Labs/Neighborhood-Attention-Transformer: NAT.md and DiNAT.md in detection/ and segmentation/"
_CHECKPOINTS: dict[str, tuple[str, dict[str, float]]] = {
    "dinat_base_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_base.pth",
        {"bbox_mAP": 53.4, "segm_mAP": 46.2},
    ),
    "dinat_base_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_base.pth", {"mIoU": 49.6}),
    "dinat_large_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_large.pth",
        {"bbox_mAP": 55.3, "segm_mAP": 47.8},
    ),
    "dinat_large_upernet_160k_ade20k-640": ("dinat/checkpoints/ade20k/upernet_dinat_large.pth", {"mIoU": 54.0}),
    "dinat_mini_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_mini.pth",
        {"bbox_mAP": 51.2, "segm_mAP": 44.4},
    ),
    "dinat_mini_mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/maskrcnn_dinat_mini.pth",
        {"bbox_mAP": 47.2, "segm_mAP": 42.5},
    ),
    "dinat_mini_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_mini.pth", {"mIoU": 45.8}),
    "dinat_s_base_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_s_base.pth",
        {"bbox_mAP": 52.6, "segm_mAP": 45.3},
    ),
    "dinat_s_base_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_s_base.pth", {"mIoU": 49.4}),
    "dinat_s_large_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_s_large.pth",
        {"bbox_mAP": 54.8, "segm_mAP": 47.2},
    ),
    "dinat_s_large_upernet_160k_ade20k-640": ("dinat/checkpoints/ade20k/upernet_dinat_s_large.pth", {"mIoU": 53.4}),
    "dinat_s_small_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_s_small.pth",
        {"bbox_mAP": 52.3, "segm_mAP": 45.2},
    ),
    "dinat_s_small_mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/maskrcnn_dinat_s_small.pth",
        {"bbox_mAP": 48.6, "segm_mAP": 43.5},
    ),
    "dinat_s_small_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_s_small.pth", {"mIoU": 48.6}),
    "dinat_s_tiny_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_s_tiny.pth",
        {"bbox_mAP": 51.0, "segm_mAP": 44.1},
    ),
    "dinat_s_tiny_mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/maskrcnn_dinat_s_tiny.pth",
        {"bbox_mAP": 46.6, "segm_mAP": 42.1},
    ),
    "dinat_s_tiny_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_s_tiny.pth", {"mIoU": 46.0}),
    "dinat_small_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_small.pth",
        {"bbox_mAP": 52.9, "segm_mAP": 45.8},
    ),
    "dinat_small_mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/maskrcnn_dinat_small.pth",
        {"bbox_mAP": 49.3, "segm_mAP": 44.0},
    ),
    "dinat_small_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_small.pth", {"mIoU": 48.9}),
    "dinat_tiny_cascade-mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/cascadedmaskrcnn_dinat_tiny.pth",
        {"bbox_mAP": 52.2, "segm_mAP": 45.1},
    ),
    "dinat_tiny_mask-rcnn_3x_coco": (
        "dinat/checkpoints/coco/maskrcnn_dinat_tiny.pth",
        {"bbox_mAP": 48.6, "segm_mAP": 43.5},
    ),
    "dinat_tiny_upernet_160k_ade20k": ("dinat/checkpoints/ade20k/upernet_dinat_tiny.pth", {"mIoU": 47.8}),
    "nat_base_cascade-mask-rcnn_3x_coco": (
        "nat/checkpoints/DET/nat_base_cascademaskrcnn.pth",
        {"bbox_mAP": 52.3, "segm_mAP": 45.1},
    ),
    "nat_base_upernet_160k_ade20k": ("nat/checkpoints/SEG/nat_base_upernet.pth", {"mIoU": 48.5}),
    "nat_mini_cascade-mask-rcnn_3x_coco": (
        "nat/checkpoints/DET/nat_mini_cascademaskrcnn.pth",
        {"bbox_mAP": 50.3, "segm_mAP": 43.6},
    ),
    "nat_mini_mask-rcnn_3x_coco": ("nat/checkpoints/DET/nat_mini_maskrcnn.pth", {"bbox_mAP": 46.5, "segm_mAP": 41.7}),
    "nat_mini_upernet_160k_ade20k": ("nat/checkpoints/SEG/nat_mini_upernet.pth", {"mIoU": 45.1}),
    "nat_small_cascade-mask-rcnn_3x_coco": (
        "nat/checkpoints/DET/nat_small_cascademaskrcnn.pth",
        {"bbox_mAP": 52.0, "segm_mAP": 44.9},
    ),
    "nat_small_mask-rcnn_3x_coco": ("nat/checkpoints/DET/nat_small_maskrcnn.pth", {"bbox_mAP": 48.4, "segm_mAP": 43.2}),
    "nat_small_upernet_160k_ade20k": ("nat/checkpoints/SEG/nat_small_upernet.pth", {"mIoU": 48.0}),
    "nat_tiny_cascade-mask-rcnn_3x_coco": (
        "nat/checkpoints/DET/nat_tiny_cascademaskrcnn.pth",
        {"bbox_mAP": 51.4, "segm_mAP": 44.5},
    ),
    "nat_tiny_mask-rcnn_3x_coco": ("nat/checkpoints/DET/nat_tiny_maskrcnn.pth", {"bbox_mAP": 47.7, "segm_mAP": 42.6}),
    "nat_tiny_upernet_160k_ade20k": ("nat/checkpoints/SEG/nat_tiny_upernet.pth", {"mIoU": 47.1}),
}

for _name, (_path, _metrics) in _CHECKPOINTS.items():
    register_checkpoint(
        Checkpoint(
            name=_name,
            family="nat",
            task="detection" if _name.endswith("_coco") else "segmentation",
            config=_name,
            urls=(f"https://shi-labs.com/projects/{_path}",),
            license="repository MIT; no separate license of the weights",
            source=_SOURCE,
            metrics=_metrics,
        )
    )
