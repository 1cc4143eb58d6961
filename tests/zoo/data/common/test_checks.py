import pytest

from attnzoo.zoo.data import (
    ImageClassificationDataset,
    check_num_classes,
    check_same_classes,
)
from attnzoo.zoo.data.common.checks import choose, first_lines, first_names

EVALUATION = {"type": "Evaluation", "size": 16, "crop_pct": 1.0}


@pytest.fixture
def folder(make_folder):
    return make_folder(count=1)


def test_choices_depend_on_the_seed_alone():
    assert choose(1000, 5, 0) == choose(1000, 5, 0) != choose(1000, 5, 1)
    assert choose(1000, 5, 0) == sorted(set(choose(1000, 5, 0)))
    assert len(choose(1000, 5, 0)) == 5
    assert choose(4, 5, 0) == choose(4, 4, 0) == [0, 1, 2, 3]


def test_long_lists_are_counted():
    assert first_names("abcde") == "a, b, c, d, e"
    assert first_names([1, 2, 3, 4, 5, 6, 7]) == "1, 2, 3, 4, 5, ... (2 more)"
    assert first_lines(["a", "b"]) == "a\nb"
    assert first_lines(list("abcdefg")) == "a\nb\nc\nd\ne\nand 2 more"


def test_a_models_number_of_classes_is_checked(folder):
    dataset = ImageClassificationDataset(str(folder), transform=EVALUATION)
    check_num_classes(2, dataset)
    message = r"model\.backbone\.num_classes is 1000, but .*images has 2 classes: set .*num_classes=2"
    with pytest.raises(ValueError, match=message):
        check_num_classes(1000, dataset)


def test_two_data_sets_must_have_the_same_classes(make_folder):
    def dataset(name, classes, **options):
        root = make_folder(name, classes, count=1)
        return ImageClassificationDataset(str(root), transform=EVALUATION, **options)

    train = dataset("train", ("cat", "cow", "dog"))
    check_same_classes(train, dataset("same", ("cat", "cow", "dog")))
    with pytest.raises(
        ValueError, match=r"has 2 classes, .* has 3: the former lacks cow. Give both the same class_map"
    ):
        check_same_classes(train, dataset("less", ("cat", "dog")))
    with pytest.raises(ValueError, match="lacks cow and has hen in addition"):
        check_same_classes(train, dataset("other", ("cat", "dog", "hen")))
    with pytest.raises(ValueError, match="orders them differently"):
        check_same_classes(train, dataset("turned", ("cat", "cow", "dog"), class_map=["dog", "cow", "cat"]))
