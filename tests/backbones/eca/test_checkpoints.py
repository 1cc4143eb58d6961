"""Published forms of ECA-Nets' checkpoints load strictly."""

from __future__ import annotations

import pytest
import torch

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.ecas import PACKS, classifier, official_weights, on_meta


class TestCheckpoints:
    @pytest.mark.parametrize("variant", PACKS)
    def test_names_and_shapes(self, variant: str):
        shapes = parity.load_pack("ecanet", variant)[0]["state_dict"]
        model = on_meta(variant)
        renamed = checkpoint_filter(model)({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        assert {name: value.shape for name, value in renamed.items()} == {
            name: value.shape for name, value in model.state_dict().items()
        }

    @pytest.mark.parametrize("variant", ["eca_resnet18", "eca_mobilenet_v2"])
    def test_the_authors_files_are_of_training_runs(self, variant: str):
        weights = {f"module.{name}": value for name, value in official_weights(variant).items()}
        model = model_entrypoint(variant)().eval()
        load_weights(model, {"epoch": 100, "arch": variant, "state_dict": weights, "best_prec1": 70.0, "optimizer": {}})
        for name, value in model.state_dict().items():
            assert torch.equal(value, classifier(variant).state_dict()[name]), name

    @pytest.mark.parametrize("variant", PACKS)
    def test_own_names_pass_unchanged(self, variant: str):
        for model in (on_meta(variant), FeatureMaps(model_entrypoint(variant)(), out_indices=(1, 2))):
            own = model.state_dict()
            assert checkpoint_filter(model)(own).keys() == own.keys()
            assert (
                checkpoint_filter(model)({f"module.{name}": value for name, value in own.items()}).keys() == own.keys()
            )

    def test_the_wrong_kernel_sizes_do_not_load(self):
        model = model_entrypoint("eca_resnet18")(k_size=(3, 3, 3, 3))
        with pytest.raises(ValueError, match=r"stages\.1\.blocks\.0\.attn\.conv\.weight"):
            load_weights(model, official_weights("eca_resnet18"))

    def test_names_of_no_known_form_are_reported(self):
        model = model_entrypoint("eca_resnet18")()
        with pytest.raises(ValueError, match="layer9"):
            load_weights(model, {**official_weights("eca_resnet18"), "layer9.weight": torch.zeros(1)})
