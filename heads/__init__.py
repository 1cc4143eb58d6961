"""Necks and heads on feature maps: detection, instance and semantic segmentation, probing.

They compute what OpenMMLab's heads compute, under OpenMMLab's parameter names, on torchvision's operators alone, so
that published checkpoints load and reproduce. They know nothing of backbones, data or configs.
"""
