"""timm's checkpoints of HaloNets load strictly."""

from __future__ import annotations

import pytest
import timm
import torch

from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support.halonets import tiny


class TestModel:
    def test_parts_of_the_features_take_published_names(self):
        with torch.device("meta"):
            timm_names = timm.create_model("sehalonet33ts").state_dict()
            for indices in ((0,), (0, 1), (2, 3), (4,)):
                features = FeatureMaps(model_entrypoint("sehalonet33ts")(), out_indices=indices)
                shapes = {name: value.shape for name, value in checkpoint_filter(features)(timm_names).items()}
                assert shapes == {name: value.shape for name, value in features.state_dict().items()}

    def test_own_names_and_prefixes(self):
        for model in (tiny(), tiny(stem_pool=False, final_dim=32), FeatureMaps(tiny())):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)
        own = tiny().state_dict()
        for prefix in ("module.", "backbone.", "_orig_mod.module."):
            assert checkpoint_filter(tiny())({prefix + name: value for name, value in own.items()}).keys() == own.keys()

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.7\.conv1\.conv\.weight"):
            model.load_state_dict(filtered({**own, "stages.0.7.conv1_1x1.conv.weight": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Unexpected key.*final_conv\.conv\.weight"):
            model.load_state_dict(filtered({**own, "final_conv.conv.weight": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*row_embedding"):
            model.load_state_dict(filtered({name: own[name] for name in own if "row_embedding" not in name}))
