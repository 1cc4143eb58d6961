import pytest

from attnzoo.zoo.data.common.arguments import check_choice, check_probability, check_scale, check_size


def test_sizes_and_scales_become_pairs():
    assert check_size(224) == (224, 224)
    assert check_size([3, 4]) == (3, 4)
    assert check_scale([2048, 512]) == (2048, 512)


@pytest.mark.parametrize("size", [0, -1, (1,), (1, 2, 3), (1.5, 2), "ab"])
def test_impossible_sizes_raise(size):
    with pytest.raises(ValueError, match=r"size must be a positive integer or \(height, width\) in pixels, got"):
        check_size(size)
    with pytest.raises(ValueError, match="scale must be two positive integers"):
        check_scale(size)


def test_messages_name_the_argument_and_what_is_allowed():
    with pytest.raises(
        ValueError, match=r"crop must be two positive integers in pixels, such as \(3, 4\), got \(0, 2\)"
    ):
        check_scale((0, 2), "crop", "(3, 4)")
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"flip must be a probability in \[0, 1\], got {value}"):
            check_probability("flip", value)
    check_probability("flip", 0)
    check_choice("mode", "a", "ab")
    with pytest.raises(ValueError, match=r"Unknown mode 'boarder'\. Did you mean 'border'"):
        check_choice("mode", "boarder", ["border", "center"])
