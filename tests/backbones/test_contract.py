"""The contract that every registered model keeps, whatever its family.

A form is a set of kinds of modules that a model is made of. The smallest model of each form is built and run, with tiny
images; every other model is built on the meta device.
"""

from __future__ import annotations

import copy
import functools
import io
from typing import Any

import pytest
import torch
from mmengine.config import Config
from timm import data as timm_data
from timm import optim as timm_optim
from timm.models import group_parameters
from torch import nn

from attnzoo.backbones import checkpoint_filter, get_pretrained_cfg, list_families, list_models, model_entrypoint
from attnzoo.backbones.common.backbone import Backbone
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.zoo.registry import MODELS
from support.slow import slow_except

# timm documents these two here, but does not mark them as exported, so pyright takes them for private.
resolve_model_data_config = timm_data.resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]
param_groups_layer_decay = timm_optim.param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]

NAMES = list_models()


@functools.cache
def on_meta(name: str) -> Backbone:
    with torch.device("meta"):
        return model_entrypoint(name)()


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def smallest_of_each_form() -> list[str]:
    forms: dict[tuple[str, frozenset[str]], list[str]] = {}
    for family in list_families():
        for name in list_models(family=family):
            kinds = frozenset(type(module).__qualname__ for module in on_meta(name).modules())
            forms.setdefault((family, kinds), []).append(name)
    return [min(names, key=lambda name: num_parameters(on_meta(name))) for names in forms.values()]


SMALLEST = smallest_of_each_form()


def quick_forms() -> set[str]:
    """Returns the smallest form of each family, and all others with fewer than 9 million parameters."""
    sizes = {name: num_parameters(on_meta(name)) for name in SMALLEST}
    by_family = [[name for name in SMALLEST if name in list_models(family=family)] for family in list_families()]
    return {
        *(min(names, key=sizes.__getitem__) for names in by_family),
        *(name for name in SMALLEST if sizes[name] < 9e6),
    }


FORMS = slow_except(SMALLEST, quick_forms())


def build(name: str, **kwargs: Any) -> Backbone:
    torch.manual_seed(0)
    model = model_entrypoint(name)(**kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)  # a residual branch that begins at zero would hide what the tests look for
    return model


@functools.cache
def shared(name: str) -> Backbone:
    """A model with seven classes in eval mode, for tests that leave it as it is."""
    return build(name, num_classes=7).eval()


def images(model: Backbone, channels: int = 3, batch: int = 2) -> torch.Tensor:
    """Tiny images whose sides are no multiples of the strides."""
    least = max(32, model.min_input_size)
    return torch.randn(batch, channels, least + 5, least, generator=torch.Generator().manual_seed(1))


def map_size(model: Backbone, x: torch.Tensor, stride: int) -> tuple[int, int]:
    fill = 0 if model.cuts_edges else stride - 1
    return (x.shape[2] + fill) // stride, (x.shape[3] + fill) // stride


def features_shape(model: Backbone, x: torch.Tensor) -> tuple[int, ...]:
    """What `forward_features` returns: a map, or tokens where there are others than the map's."""
    height, width = map_size(model, x, model.feature_info[-1]["reduction"])
    if model.num_prefix_tokens:
        return (len(x), model.num_prefix_tokens + height * width, model.num_features)
    return (len(x), model.num_features, height, width)


def map_of_features(model: Backbone, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if not model.num_prefix_tokens:
        return features
    size = map_size(model, x, model.feature_info[-1]["reduction"])
    return features[:, model.num_prefix_tokens :].unflatten(1, size).permute(0, 3, 1, 2)


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_parameters(self, name: str):
        assert num_parameters(on_meta(name)) == get_pretrained_cfg(name).params

    def test_pretrained_cfg(self, name: str):
        model = on_meta(name)
        assert model.pretrained_cfg is not None
        assert model.pretrained_cfg == model.default_cfg == get_pretrained_cfg(name).to_dict()
        first_convs = model.pretrained_cfg["first_conv"]
        for first_conv in [first_convs] if isinstance(first_convs, str) else first_convs:
            assert model.get_parameter(f"{first_conv}.weight").shape[1] == model.in_chans == 3
        assert model.get_submodule(model.pretrained_cfg["classifier"]) is model.get_classifier()
        data = resolve_model_data_config(model)
        assert data["input_size"] == model.pretrained_cfg["input_size"]
        assert min(data["input_size"][1:]) >= model.min_input_size
        last = model.feature_info[-1]
        assert model.pretrained_cfg["pool_size"] == tuple(
            -(-side // last["reduction"]) for side in data["input_size"][1:]
        )

    def test_feature_info(self, name: str):
        model = on_meta(name)
        strides = [stage["reduction"] for stage in model.feature_info]
        assert strides == sorted(strides)
        # What follows the last stage may widen its map.
        assert model.num_features >= model.feature_info[-1]["num_chs"]
        for stage in model.feature_info:
            assert isinstance(model.get_submodule(stage["module"]), nn.Module)

    def test_no_weight_decay_names_exist(self, name: str):
        model = on_meta(name)
        names = {name for name, _ in model.named_parameters()}
        assert model.no_weight_decay() <= names

    @pytest.mark.parametrize("coarse", [False, True])
    def test_group_matcher_covers_every_parameter(self, name: str, coarse: bool):
        model = on_meta(name)
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        names = [name for members in groups.values() for name in members]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        by_name = {name: index for index, members in groups.items() for name in members}
        last = max(groups)
        assert by_name["head.fc.weight"] == last
        assert all(name.startswith(("head.", "norm.") if coarse else "head.") for name in groups[last])
        first_convs = get_pretrained_cfg(name).first_conv
        first_conv = first_convs if isinstance(first_convs, str) else first_convs[0] if first_convs else ""
        assert by_name[f"{first_conv}.weight"] == 0
        order = [by_name[name] for name in by_name if name.startswith("stages.")]
        assert order == sorted(order)


@pytest.mark.parametrize("name", slow_except(NAMES, SMALLEST))
class TestArguments:
    def test_config_text_builds_the_same_model(self, name: str):
        text = Config({"model": {"type": name, "num_classes": 7, "drop_path_rate": 0.1}}).dump()
        assert text is not None
        again = Config.fromstring(text, ".py").model
        with torch.device("meta"):
            built = MODELS.build(again)
        assert built.num_classes == 7
        assert (built.pretrained_cfg["architecture"], type(built)) == (name, type(on_meta(name)))
        shapes = {key: value.shape for key, value in on_meta(name).state_dict().items()}
        own = {key: value.shape for key, value in built.state_dict().items()}
        assert {key for key in own if own[key] != shapes[key]} == {"head.fc.weight", "head.fc.bias"}
        assert own.keys() == shapes.keys()

    def test_wrong_arguments_are_named(self, name: str):
        with pytest.raises(ValueError, match=f"{name} has no argument 'drop_path_rat'. Did you mean 'drop_path_rate'"):
            model_entrypoint(name)(drop_path_rat=0.1)
        with torch.device("meta"):
            for kwargs in ({"drop_path_rate": 1.0}, {"drop_rate": -1.0}, {"num_classes": -1}, {"in_chans": 0}):
                (key,) = kwargs
                with pytest.raises(ValueError, match=rf"^{key} must be"):
                    model_entrypoint(name)(**kwargs)


@pytest.mark.parametrize("name", FORMS)
class TestSmallestOfEachForm:
    def test_backward_reaches_every_parameter_also_with_checkpointing(self, name: str):
        model = build(name, num_classes=7, drop_path_rate=0.3)
        x = images(model)
        assert model.train() is model
        found: dict[bool, dict[str, torch.Tensor]] = {}
        for enable in (False, True):
            model.zero_grad()
            model.set_grad_checkpointing(enable)
            torch.manual_seed(1)
            logits = model(x)
            assert logits.shape == (2, 7)
            logits.square().sum().backward()
            found[enable] = {key: value.clone() for key, value in gradients(model).items() if value is not None}
            missing = {key for key, _ in model.named_parameters()} - found[enable].keys()
            assert not missing
            assert all(value.isfinite().all() for value in found[enable].values())
        for key, gradient in found[True].items():
            torch.testing.assert_close(gradient, found[False][key], msg=key)

    def test_checkpointing_recomputes(self, name: str):
        model = build(name, num_classes=7)
        x = images(model, batch=1)
        kept: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            kept[-1] += tensor.numel()
            return tensor

        for enable in (False, True):
            kept.append(0)
            model.set_grad_checkpointing(enable)
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                model(x)
        assert kept[1] < kept[0] / 2

    def test_drop_path_is_random_in_training_alone(self, name: str):
        model = build(name, num_classes=7, drop_path_rate=0.9).train()
        x = images(model)
        with torch.no_grad():
            for parameter in model.parameters():  # some designs begin with branches that are zero
                if not parameter.any():
                    parameter.fill_(0.5)
            assert not torch.equal(model(x), model(x))
            assert model.eval() is model
            assert torch.equal(model(x), model(x))

    @torch.no_grad()
    def test_parts_make_the_whole(self, name: str):
        model = shared(name)
        x = images(model)
        features = model.forward_features(x)
        assert features.shape == features_shape(model, x)
        logits = model(x)
        assert torch.equal(model.forward_head(features), logits)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        torch.testing.assert_close(model.get_classifier()(pooled), logits)

    @torch.no_grad()
    def test_forward_intermediates(self, name: str):
        model = shared(name)
        x = images(model)
        last, maps = model.forward_intermediates(x)
        assert torch.equal(last, model.forward_features(x))
        assert len(maps) == len(model.feature_info)
        for one, stage in zip(maps, model.feature_info, strict=True):
            assert one.shape == (2, stage["num_chs"], *map_size(model, x, stage["reduction"]))
        early = model.forward_intermediates(x, indices=[0, 1], stop_early=True, intermediates_only=True)
        assert all(torch.equal(one, other) for one, other in zip(early, maps[:2], strict=True))
        (final,) = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
        assert torch.equal(final, map_of_features(model, last, x))
        nhwc = model.forward_intermediates(x, indices=1, output_fmt="NHWC", intermediates_only=True)
        assert torch.equal(nhwc[0].permute(0, 3, 1, 2), maps[-1])

    def test_feature_maps(self, name: str):
        model = shared(name)
        features = FeatureMaps(copy.deepcopy(model)).eval()
        x = images(model)
        maps = features(x)
        expected = model.forward_intermediates(x, intermediates_only=True)
        channels, strides = features.feature_info.channels(), features.feature_info.reduction()
        assert features.out_indices == list(range(len(model.feature_info)))
        for one, other, width, stride in zip(maps, expected, channels, strides, strict=True):
            assert one.shape == (2, width, *map_size(model, x, stride))
            torch.testing.assert_close(one, other)
        torch.stack([one.square().mean() for one in maps]).sum().backward()
        assert not [key for key, gradient in gradients(features).items() if gradient is None]
        assert features.no_weight_decay() == {f"body.{key}" for key in model.no_weight_decay()}
        groups = group_parameters(features, features.group_matcher())
        assert len(groups) > len(features.out_indices)
        assert all(key.startswith("body.stem") for key in groups[0])
        loaded = checkpoint_filter(features)(model.state_dict())
        features.load_state_dict(loaded, strict=True)
        features.load_state_dict(checkpoint_filter(features)(features.state_dict()), strict=True)

    @torch.no_grad()
    def test_state_dict_round_trip(self, name: str):
        model = shared(name)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        torch.manual_seed(5)
        other = model_entrypoint(name)(num_classes=7).eval()
        x = images(model, batch=1)
        assert not torch.equal(other(x), model(x))
        state_dict = torch.load(file, weights_only=True)
        other.load_state_dict(checkpoint_filter(other)(state_dict), strict=True)
        assert torch.equal(other(x), model(x))

    @torch.no_grad()
    def test_reset_classifier(self, name: str):
        model = copy.deepcopy(shared(name))
        x = images(model, batch=1)
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(3)
        assert (model.num_classes, model(x).shape) == (3, (1, 3))
        assert model.get_classifier().weight.shape == (3, model.head_hidden_size)
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
        model.reset_classifier(0, "")
        assert model(x).shape == features_shape(model, x)
        model.reset_classifier(4, "avg")
        assert model(x).shape == (1, 4)

    @torch.no_grad()
    def test_without_classes_and_with_one_channel(self, name: str):
        model = build(name, num_classes=0, in_chans=1).eval()
        assert isinstance(model.get_classifier(), nn.Identity)
        assert (model.num_classes, model.in_chans) == (0, 1)
        x = images(model, channels=1, batch=1)
        assert model(x).shape == (1, model.head_hidden_size)

    def test_layer_decay(self, name: str):
        model = shared(name)
        groups = param_groups_layer_decay(
            model, weight_decay=0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5
        )
        by_parameter = {id(parameter): group for group in groups for parameter in group["params"]}
        assert len(by_parameter) == len(list(model.parameters()))
        assert by_parameter[id(model.head.fc.weight)]["lr_scale"] == 1.0
        first = next(iter(model.stem.parameters()))
        assert by_parameter[id(first)]["lr_scale"] == min(group["lr_scale"] for group in groups) < 0.1
        assert all(by_parameter[id(model.get_parameter(key))]["weight_decay"] == 0 for key in model.no_weight_decay())

    def test_too_small_images_are_refused(self, name: str):
        model = shared(name)
        least = model.min_input_size
        with torch.no_grad():
            assert model(torch.randn(1, 3, least, least)).shape == (1, 7)
        with pytest.raises(ValueError, match=f"at least {least} pixels"):
            model(torch.randn(1, 3, least - 1, least))


def test_every_family_has_a_small_form():
    assert {name for name in SMALLEST if num_parameters(on_meta(name)) < 100e6} == set(SMALLEST)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_compiled_model_equals_the_eager_one(name: str):
    model = build(name, num_classes=7).train()
    other = copy.deepcopy(model)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    x = images(model)
    for run in (model, compiled):
        run(x).square().sum().backward()
    found = gradients(other)
    for key, gradient in gradients(model).items():
        torch.testing.assert_close(found[key], gradient, msg=key)
