"""Importing this module registers the zoo's models in timm, with the prefix `attnzoo_`.

It is meant for scripts that can import additional modules, such as timm's:
`python train.py --device-modules attnzoo.zoo.timm_models --model attnzoo_nat_mini ...`.
"""

from .interop import register_in_timm

MODELS = register_in_timm()
"""Names of the models in timm."""
