import numpy as np
import pytest

from attnzoo.zoo.data.formats import run_lengths
from attnzoo.zoo.data.formats.run_lengths import run_length_totals
from support import painted_coco


def decode(text):
    """Decodes run lengths number by number, as COCO's own decoder does; None if they are damaged."""
    runs, value, place = [], 0, 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or place > 5:
            return None
        value |= (bits & 31) << (5 * place)
        place += 1
        if not bits & 32:
            value -= (bits & 16 != 0) << (5 * place)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            if runs[-1] < 0:
                return None
            value, place = 0, 0
    return runs if place == 0 else None


def expected(texts):
    decoded = [decode(text) for text in texts]
    return [-1 if runs is None else sum(runs) for runs in decoded]


def test_totals_of_encoded_masks():
    generator = np.random.default_rng(0)
    masks = [generator.random((height, width)) < 0.3 for height, width in [(1, 1), (7, 5), (40, 60)]]
    masks += [np.zeros((9, 4)), np.ones((9, 4)), painted_coco.disc(300, 500, 150, 200, 120, 60)]
    texts = [painted_coco.compressed(np.asfortranarray(mask, dtype=np.uint8))["counts"].encode() for mask in masks]
    assert run_length_totals(texts).tolist() == [mask.size for mask in masks] == expected(texts)


def test_damaged_run_lengths_do_not_affect_others():
    texts = [b"", b"3", b"`", b"3", b"\x01", b"", b"~\xff", b"O", b"13", b"oooooooo0", b"012O", b"3"]
    assert run_length_totals(texts).tolist() == expected(texts) == [0, 3, -1, 3, -1, 0, -1, -1, 4, -1, 3, 3]
    assert run_length_totals([]).tolist() == []
    assert run_length_totals([b"", b""]).tolist() == [0, 0]


@pytest.mark.parametrize(("seed", "batch"), [(0, 1), (1, 7), (2, 2**18), (3, 2**18)])
def test_random_characters(monkeypatch, seed, batch):
    monkeypatch.setattr(run_lengths, "_BATCH_BYTES", batch)
    generator = np.random.default_rng(seed)
    texts = [bytes(generator.integers(46, 113, generator.integers(0, 12)).tolist()) for _ in range(2000)]
    assert run_length_totals(texts).tolist() == expected(texts)
