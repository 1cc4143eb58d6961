"""Settings of heads given as dicts."""

from __future__ import annotations

import pytest

from attnzoo.heads.assignment import SamplerSettings
from attnzoo.heads.settings import filled


def test_given_settings_override_defaults():
    assert filled("sampler", {"num": 4}, SamplerSettings, num=2, pos_fraction=0.5) == {"num": 4, "pos_fraction": 0.5}
    assert filled("sampler", None, SamplerSettings, num=2) == {"num": 2}


def test_unknown_settings_raise():
    with pytest.raises(ValueError, match=r"sampler has no setting 'pos_fracton'. Did you mean 'pos_fraction'"):
        filled("sampler", {"pos_fracton": 0.5}, SamplerSettings)
