from attnzoo.zoo.data.common.checks import choose, first_lines, first_names


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
