import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from attnzoo.zoo import weights
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import Classifier, ImagePreprocessor, Mixing


class TinyBackbone(nn.Module):
    """A stem and three stages with everything that freezing must reach."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.num_classes = num_classes
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)) for _ in range(3)
        )
        self.head = nn.Linear(4, num_classes)

    def group_matcher(self, coarse=False):
        return {"stem": r"^stem|pos_embed", "blocks": r"^stages\.(\d+)"}

    def init_weights(self, mode=""):
        raise AssertionError("would undo loaded weights")

    def forward(self, image):
        x = self.stem(image) + self.pos_embed
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def classifier():
    def build(**options):
        torch.manual_seed(0)
        return Classifier(TinyBackbone(), **options)

    return build


def batch(size=5):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (size, 3, 9, 9), generator=generator, dtype=torch.uint8),
        "label": torch.arange(size) % 4,
        "index": list(range(10, 10 + size)),
        "epoch": [2] * size,
        "repeat": [0] * size,
        "path": [f"{number}.png" for number in range(size)],
        "broken": [],
    }


def losses(model, data=None):
    return model(**model.data_preprocessor(batch() if data is None else data, True), mode="loss")


def test_it_is_built_from_a_config_with_a_backbone_by_name():
    model = MODELS.build(
        {
            "type": "Classifier",
            "backbone": {"type": "nat_mini", "num_classes": 3, "drop_path_rate": 0.1},
            "loss": {"type": "BinaryCrossEntropy", "target_threshold": 0.2},
            "mixing": {"mixup_alpha": 0.1, "label_smoothing": 0.0},
            "data_preprocessor": {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
            "frozen_stages": 1,
        }
    )
    assert model.num_classes == 3
    assert model.mixing == Mixing(mixup_alpha=0.1, label_smoothing=0.0)
    trained = {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(not name.startswith(("stem.", "stages.0.")) for name in trained)
    frozen = {name for name, _ in model.backbone.named_parameters()} - trained
    assert all(name.startswith(("stem.", "stages.0.")) for name in frozen)
    assert set(model.state_dict()) == {f"backbone.{name}" for name in model.backbone.state_dict()}


def test_images_are_normalised_on_the_way(classifier):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    model = classifier(data_preprocessor={"mean": mean, "std": std})
    data = batch()
    got = model.data_preprocessor(data, True)
    image = data["image"].float() / 255
    for channel in range(3):
        torch.testing.assert_close(got["image"][:, channel], (image[:, channel] - mean[channel]) / std[channel])
    assert {key: got[key] for key in got if key not in ("image", "label")} == {
        key: data[key] for key in data if key not in ("image", "label")
    }
    assert data["image"].dtype == torch.uint8
    ready = model.data_preprocessor({"image": image}, False)["image"]
    torch.testing.assert_close(ready, got["image"])


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "Divide by 255"),
        ((0.5, 0.5), (0.5,), "one value per channel"),
        ((0.5,), (0.0,), "std must be positive"),
    ],
)
def test_impossible_normalisations_raise(mean, std, message):
    with pytest.raises(ValueError, match=message):
        ImagePreprocessor(mean, std)


def test_other_channels_than_expected_raise():
    with pytest.raises(ValueError, match="must have 1 channels, as mean and std, got 3"):
        ImagePreprocessor((0.5,), (0.5,))(batch())


def test_the_loss_is_that_of_the_logits(classifier):
    model = classifier(loss={"type": "CrossEntropy", "label_smoothing": 0.1}).eval()
    data = model.data_preprocessor(batch())
    logits = model(data["image"])
    got = losses(model)
    expected = nn.functional.cross_entropy(logits, data["label"], label_smoothing=0.1)
    torch.testing.assert_close(got["loss"], expected)
    right = (logits.argmax(1) == data["label"]).float().mean() * 100
    torch.testing.assert_close(got["train_top1"], right)


def test_the_accuracy_of_mixed_images_is_that_of_the_label_with_the_larger_share(classifier, monkeypatch):
    model = classifier(mixing={"cutmix_alpha": 0.0})
    data = model.data_preprocessor(batch(4), True)
    targets = []
    logits = nn.functional.one_hot(data["label"], 4).float()  # each image's own label
    monkeypatch.setattr(model, "logits", lambda image: logits)
    monkeypatch.setattr(model.loss, "forward", lambda logits, target: targets.append(target) or logits.sum())
    found = [model(**{**data, "epoch": [epoch] * 4}, mode="loss")["train_top1"].item() for epoch in range(10)]
    assert found == [100.0 if target.argmax(1).equal(data["label"]) else 0.0 for target in targets]
    assert set(found) == {0.0, 100.0}


def test_a_training_step_changes_every_weight(classifier):
    model = classifier().train()
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logged = model.train_step(batch(), optim_wrapper=optimizer)
    assert {"loss", "train_top1"} <= set(logged)
    for name, parameter in model.named_parameters():
        # BatchNorm takes a bias before it away again.
        if not name.endswith(("stem.0.bias", "0.bias", "pos_embed")):
            assert not torch.equal(parameter, before[name]), name


def test_mixing_draws_from_seed_epoch_and_samples_alone(classifier):
    def loss_of(seed=0, **changes):
        model = classifier(mixing={"mixup_alpha": 0.8, "cutmix_alpha": 1.0}, seed=seed).eval()
        torch.rand(3)
        return losses(model, {**batch(), **changes})["loss"].item()

    assert loss_of() == loss_of()
    others = [loss_of(1), loss_of(epoch=[3] * 5), loss_of(index=list(range(5))), loss_of(repeat=[1] * 5)]
    assert len({loss_of(), *others}) == 5


def test_mixing_and_its_smoothing_reach_the_loss(classifier):
    mixing = Mixing(prob=0.0, label_smoothing=0.2)
    mixed = losses(classifier(mixing=mixing, loss={"type": "SoftTargetCrossEntropy"}).eval())["loss"]
    plain = losses(classifier(loss={"type": "CrossEntropy", "label_smoothing": 0.2}).eval())["loss"]
    torch.testing.assert_close(mixed, plain)


def test_predictions_tell_scores_and_samples(classifier):
    model = classifier(mixing={}).eval()
    predictions = model.val_step(batch())
    logits = model(model.data_preprocessor(batch())["image"])
    assert len(predictions) == 5
    for number, prediction in enumerate(predictions):
        torch.testing.assert_close(prediction.pop("scores"), logits[number].softmax(0))
        assert prediction == {"index": 10 + number, "label": number % 4, "path": f"{number}.png"}
    (alone,) = model.test_step({"image": batch(1)["image"]})
    assert (alone["label"], alone["path"], alone["index"]) == (None, None, None)


def test_independent_classes_have_independent_scores(classifier):
    model = classifier(loss={"type": "BinaryCrossEntropy"}).eval()
    logits = model(model.data_preprocessor(batch())["image"])
    torch.testing.assert_close(model.val_step(batch())[0]["scores"], logits[0].sigmoid())


@pytest.mark.parametrize(("count", "frozen_names"), [(0, []), (2, ["stages.0", "stages.1"])])
def test_frozen_stages_get_no_gradients_and_keep_their_statistics(classifier, count, frozen_names):
    model = classifier(frozen_stages=count).train()
    names = ("stem", "pos_embed", *frozen_names)
    before = copy.deepcopy(model.backbone.state_dict())
    losses(model)["loss"].backward()
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is None) == name.startswith(names), name
    for name, module in model.backbone.named_modules():
        if name and not list(module.children()):
            assert module.training != name.startswith(names), name
    after = model.backbone.state_dict()
    for name in after:
        if "running" in name:
            assert torch.equal(before[name], after[name]) == name.startswith(names), name
    assert not any(module.training for module in model.eval().modules())


def test_norm_eval_fixes_statistics_and_trains_weights(classifier):
    model = classifier(norm_eval=True).train()
    before = copy.deepcopy(model.backbone.state_dict())
    losses(model)["loss"].backward()
    after = model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.backbone.stages[0][2].training


def test_a_copy_freezes_its_own_modules(classifier):
    twin = copy.deepcopy(classifier(frozen_stages=0)).train()
    assert not twin.backbone.stem[1].training


def test_weights_to_start_from_are_loaded_once_before_training(classifier, monkeypatch):
    calls = []
    monkeypatch.setattr(weights, "load_weights", lambda model, source: calls.append((model, source)))
    model = classifier(init_weights="start.pth")
    assert calls == []
    model.init_weights()
    model.init_weights()
    assert calls == [(model.backbone, "start.pth")]
    classifier().init_weights()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen_stages": 4}, "between 0 and 3, got 4"),
        ({"frozen_stages": -2}, "got -2"),
        ({"loss": {"type": "CrossEntropy", "label_smoothing": 0.1}, "mixing": {}}, "set label_smoothing in `mixing`"),
        ({"loss": {"type": "CrossEntrpy"}}, "'CrossEntropy'"),
        ({"data_preprocessor": {"type": "ImagePreproccesor"}}, "'ImagePreprocessor'"),
    ],
)
def test_impossible_settings_raise(classifier, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options)


def test_a_backbone_must_have_a_head_and_stages_to_freeze():
    with pytest.raises(ValueError, match="num_classes"):
        Classifier(nn.Identity())
    flat = nn.Linear(3, 4)
    flat.__dict__["num_classes"] = 4
    with pytest.raises(ValueError, match=r"needs a backbone with `stem` and `stages`, which Linear"):
        Classifier(flat, frozen_stages=0)


def test_what_a_batch_lacks_is_named(classifier):
    image = torch.zeros(2, 3, 9, 9)
    with pytest.raises(ValueError, match="no `label`"):
        classifier()(image, mode="loss")
    with pytest.raises(ValueError, match="no `index`"):
        classifier(mixing={})(image, torch.zeros(2, dtype=torch.long), mode="loss")
    with pytest.raises(ValueError, match=r"needs collate_fn=dict\(type='classification_collate'\)"):
        losses(classifier(mixing={}), {**batch(), "index": torch.arange(5)})
    with pytest.raises(ValueError, match=r"Unknown mode 'los'.*'loss'"):
        classifier()(image, mode="los")
