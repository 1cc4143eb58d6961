"""Necks and heads on feature maps: detection, instance and semantic segmentation, probing.

They compute what OpenMMLab's heads compute, with the same parameter names and on torchvision's operators alone, so that
published checkpoints load and reproduce. They do not depend on backbones, data or configs.
"""
