"""Importing this module registers the zoo's models in timm, under the prefix `attnzoo_`.

For scripts that import what they are told to, such as timm's:
`python train.py --device-modules attnzoo.zoo.timm_models --model attnzoo_nat_mini ...`.
"""

from .interop import register_in_timm

MODELS = register_in_timm()
"""The names under which timm creates the models."""
