import subprocess
import sys

import mmengine.registry as roots
import pytest
from mmengine.registry import DefaultScope

from attnzoo.zoo import factory, registry
from attnzoo.zoo.registry import DATA_SAMPLERS, MODELS


@pytest.fixture
def default_scope():
    before = dict(DefaultScope._instance_dict)
    yield lambda name: DefaultScope.get_instance(f"test-{name}", scope_name=name)
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


def test_an_unknown_type_names_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown sampler 'EpohcSampler'.*'EpochSampler'"):
        DATA_SAMPLERS.build({"type": "EpohcSampler", "dataset": [1]})
    with pytest.raises(ValueError, match=r"Unknown sampler 'attnzoo.data.EpochSampler'"):
        DATA_SAMPLERS.get("attnzoo.data.EpochSampler")


def test_mmengines_roots_find_our_types_and_our_message_in_our_scope(default_scope):
    default_scope("attnzoo")
    assert len(roots.DATA_SAMPLERS.build({"type": "EpochSampler"}, default_args={"dataset": [1, 2, 3]})) == 3
    with pytest.raises(ValueError, match="'EpochSampler'"):
        roots.DATA_SAMPLERS.build({"type": "EpochSample"}, default_args={"dataset": [1]})


@pytest.mark.parametrize("scope", ["mmengine", "attnzoo"])
def test_building_does_not_depend_on_the_default_scope(default_scope, scope):
    default_scope(scope)
    sampler = DATA_SAMPLERS.build({"type": "EvaluationSampler", "dataset": [1, 2]})
    assert type(sampler).__name__ == "EvaluationSampler"
    current = DefaultScope.get_current_instance()
    assert current is not None
    assert current.scope_name == scope


def test_types_of_mmengine_are_found_after_ours():
    assert DATA_SAMPLERS.get("DefaultSampler").__module__.startswith("mmengine")
    assert "DefaultSampler" in DATA_SAMPLERS.names()
    assert "DefaultSampler" in DATA_SAMPLERS
    assert "DefaultSmapler" not in DATA_SAMPLERS


def test_a_config_without_type_says_so():
    with pytest.raises(ValueError, match=r"The config of a sampler needs the key 'type', got the keys \['shuffle'\]"):
        DATA_SAMPLERS.build({"shuffle": True})
    with pytest.raises(ValueError, match="must be a registered name or a class, got 3"):
        DATA_SAMPLERS.get(3)  # pyright: ignore[reportArgumentType]


def test_backbones_are_types_of_models_and_go_through_create_model(monkeypatch):
    calls = []
    monkeypatch.setattr(factory, "create_model", lambda name, **kwargs: calls.append((name, kwargs)))
    MODELS.build({"type": "nat_mini", "num_classes": 10, "checkpoint_path": "x.pth"})
    MODELS.build({"type": "attnzoo.nat_mini.in1k", "pretrained": True})
    assert calls == [
        ("nat_mini", {"num_classes": 10, "checkpoint_path": "x.pth"}),
        ("nat_mini.in1k", {"pretrained": True}),
    ]


def test_unknown_backbones_and_tags_name_the_nearest():
    with pytest.raises(ValueError, match="'nat_mini'"):
        MODELS.build({"type": "nat_mni"})
    with pytest.raises(ValueError, match=r"nat_mini has no tag.*'in1k'"):
        MODELS.get("nat_mini.in2k")


def test_importing_the_registry_imports_nothing_that_registers():
    code = (
        "import sys, attnzoo.zoo.registry\n"
        "heavy = [name for name in sys.modules if name.startswith(('attnzoo.backbones', 'attnzoo.zoo.data',"
        " 'attnzoo.zoo.tasks', 'timm'))]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_all_registries_share_the_scope_and_have_a_parent():
    ours = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    assert len(ours) == 19
    assert all(one.scope == "attnzoo" and one.parent is not None for one in ours)
