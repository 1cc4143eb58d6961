"""What is drawn of a model is what it computes: probabilities that give its own attention back, gradients, maps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attnzoo import create_model
from attnzoo.tools import visualize
from attnzoo.zoo.analysis.activation_maps import grad_cam, principal_colors, receptive_field, strongest_channels
from attnzoo.zoo.analysis.attention_maps import AgentCall, RoutedCall, find_block, record_attention
from attnzoo.zoo.plots import attention as looking_inside
from attnzoo.zoo.plots.overlays import Panel, draw_panels, heat_colors

NAT = {"depths": (1, 2), "embed_dims": (16, 32), "num_heads": (1, 2), "kernel_size": 3}
HALO = {"blocks": ("ch", "hh"), "embed_dims": (32, 64), "hidden_dims": (8, 16), "num_heads": (2, 2), "block_size": 4,
        "halo_size": 1}  # fmt: skip
AGENT = {"depths": (1, 1), "num_heads": (2, 4), "agent_blocks": (1, 0), "num_agents": (4, 4), "img_size": 64}
# Models, and which of their blocks attend by position.
MODELS: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "neighborhood": ("nat_mini", NAT, [(0, 0), (1, 0), (1, 1)]),
    "dilated": ("dinat_mini", {**NAT, "dilations": ((2,), (1, 3))}, [(0, 0), (1, 0), (1, 1)]),
    "whole map with a table": ("vitrpb_small", {**NAT, "embed_dims": (32, 32), "table_size": 4}, [(0, 0), (1, 1)]),
    "halo": ("halonet26t", HALO, [(0, 1), (1, 0), (1, 1)]),
    "masked halo": ("halonet26t", {**HALO, "mask_halo": True}, [(0, 1), (1, 0)]),
    "window": ("davit_tiny", {"depths": (1,), "embed_dims": (16,), "num_heads": (2,), "window_size": 3}, [(0, 0)]),
    "agent and shifted windows": ("agent_swin_tiny", {**AGENT, "embed_dim": 16, "window_size": 3}, [(0, 0), (1, 0)]),
    "agent with a class token": ("agent_deit_tiny", {"embed_dim": 24, "depths": (1, 1, 1, 1), "img_size": 64,
                                 "agent_blocks": (1, 1, 1, 1), "num_agents": (4, 4, 4, 4)}, [(0, 0), (3, 0)]),
    "agent and stripes": ("agent_cswin_tiny", {**AGENT, "embed_dim": 16, "stripe_sizes": (1, 2)}, [(0, 0), (1, 0)]),
    "routed and whole map": ("biformer_tiny", {"depths": (1, 1, 1), "embed_dims": (16, 32, 32), "num_heads": (1, 2, 2),
                             "topks": (1, 2, -2), "num_regions": 3}, [(0, 0), (1, 0), (2, 0)]),
}  # fmt: skip


def build(kind: str, **kwargs: Any) -> Any:
    name, arguments, _ = MODELS[kind]
    torch.manual_seed(0)
    model = create_model(name, **{"num_classes": 5, **arguments, **kwargs}).eval()
    for parameter_name, parameter in model.named_parameters():
        # Attention of fresh models is nearly uniform, which would hide mistakes.
        if parameter_name.endswith(("qkv.weight", "q.weight", "kv.weight", "rpb", "embedding", "_bias")):
            nn.init.normal_(parameter, std=0.5)
    return model


def image(height: int = 45, width: int = 77) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


CASES = [(kind, stage, block) for kind, (_, _, blocks) in MODELS.items() for stage, block in blocks]


@pytest.mark.parametrize(("kind", "stage", "block"), CASES)
def test_probabilities_give_the_models_own_output(kind: str, stage: int, block: int):
    recorded = record_attention(build(kind), image(), stage, block)
    height, width = recorded.height, recorded.width
    uniform = True
    for y, x in ((0, 0), (0, width - 1), (height // 2, width // 3), (height - 1, width - 1)):
        seen = recorded.look(y, x)
        torch.testing.assert_close(seen.probabilities.sum((1, 2)) + seen.elsewhere, torch.ones(len(seen.elsewhere)))
        assert (seen.probabilities >= 0).all()
        assert (seen.probabilities[:, ~seen.seen] == 0).all()
        assert seen.expected.abs().max() > 1e-3
        torch.testing.assert_close(seen.output, seen.expected, rtol=0, atol=1e-5)
        uniform &= bool((seen.probabilities[:, seen.seen].std() < 1e-3).all())
    assert not uniform


def test_neighborhoods_have_their_shape():
    recorded = record_attention(build("dilated"), image(96, 96), 0, 0)
    seen = recorded.look(10, 12).seen
    rows, cols = (sorted(set(places.tolist())) for places in seen.nonzero().T)
    assert (rows, cols) == ([8, 10, 12], [10, 12, 14])
    assert int(recorded.look(0, 0).seen.sum()) == 9
    halo = record_attention(build("halo"), image(64, 64), 0, 1)
    inner, corner = halo.look(5, 5), halo.look(0, 0)
    assert int(inner.seen.sum()) == 36
    assert float(inner.elsewhere.max()) == 0
    assert int(corner.seen.sum()) == 25  # of a window of 36 that reaches outside
    assert float(corner.elsewhere.min()) > 0
    masked = record_attention(build("masked halo"), image(64, 64), 0, 1).look(0, 0)
    assert float(masked.elsewhere.max()) == 0


def test_routed_regions_are_those_of_the_module():
    model = build("routed and whole map")
    given = []
    attn = model.stages[1].blocks[0].attn
    handle = attn.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    recorded = record_attention(model, image(96, 96), 1, 0)
    handle.remove()
    assert isinstance(recorded.calls[0], RoutedCall)
    with torch.no_grad():
        routes = attn.routes(given[0])
    seen = recorded.look(5, 1)  # regions are 4 x 4 positions: row 1, column 0
    assert [top // 4 * 3 + left // 4 for top, left, _, _ in seen.regions] == routes[0, 3].tolist()
    assert int(seen.seen.sum()) == 2 * 16


def test_agents_are_the_product_of_two_steps():
    model = build("agent and shifted windows")
    recorded = record_attention(model, image(64, 64), 0, 0)
    (call,) = recorded.calls
    assert isinstance(call, AgentCall)
    seen = recorded.look(3, 7)
    assert seen.agents is not None
    by_hand = torch.zeros_like(seen.probabilities)
    gathered = call.gather.probabilities()
    for agent in range(4):
        by_hand += seen.agents[:, agent, None, None] * gathered[:, agent].view(-1, 16, 16)
    torch.testing.assert_close(seen.probabilities, by_hand)
    torch.testing.assert_close(seen.agents.sum(-1), torch.ones(2))


def test_feature_maps_and_wrong_places():
    model = create_model("nat_mini", features_only=True, **NAT)
    assert record_attention(model, image(), 1, -1).look(1, 1).probabilities.shape[0] == 2
    with pytest.raises(ValueError, match="There is no stage 2; NAT has 2, 0 to 1"):
        find_block(model, 2, 0)
    with pytest.raises(ValueError, match="There is no block 1 in stage 0, which has 1"):
        find_block(model, 0, 1)
    with pytest.raises(ValueError, match=r"One image .* is looked at"):
        record_attention(model, torch.randn(2, 3, 32, 32), 0, 0)
    recorded = record_attention(create_model("metaformer_micro"), image(), 0, 0)
    with pytest.raises(ValueError, match="no attention whose probabilities"):
        recorded.look(0, 0)
    with pytest.raises(ValueError, match="row 99, column 0 of a map of"):
        record_attention(model, image(), 0, 0).look(99, 0)


def test_the_receptive_field_of_a_first_block_is_local():
    model = create_model("metaformer_micro").eval()
    picture = image(64, 64)
    field = receptive_field(model, picture, find_block(model, 0, 0), 16, 8, (32, 32))
    assert field.shape == (64, 64)
    assert float(field.max()) == 1
    rows, cols = field.nonzero().T
    assert 26 <= int(rows.min()) <= int(rows.max()) <= 38  # row 16 of stride 2, its neighbours, and the stem's kernel
    assert 10 <= int(cols.min()) <= int(cols.max()) <= 22


class Marked(nn.Module):
    """Two classes, each the mean of one channel: what speaks for a class is known."""

    num_classes = 2
    map_layout = "NCHW"
    num_prefix_tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x).mean((2, 3))[:, :2]


def test_grad_cam_finds_what_speaks_for_a_class():
    model = Marked()
    picture = torch.zeros(1, 3, 4, 5)
    picture[0, 0, 1, 2], picture[0, 1, 3, 4] = 4, 6
    for target, place in ((0, (1, 2)), (1, (3, 4)), (None, (3, 4))):
        cam, found, probability = grad_cam(model, picture, model.block, (4, 5), target)
        expected = torch.zeros(4, 5)
        expected[place] = 1
        torch.testing.assert_close(cam, expected)
        assert found == (1 if target is None else target)
        torch.testing.assert_close(probability, float(model(picture).softmax(-1)[0, found]))
    with pytest.raises(ValueError, match="There is no class 2; the model has 2"):
        grad_cam(model, picture, model.block, (4, 5), 2)


def test_principal_colors_follow_what_varies():
    torch.manual_seed(0)
    features = 0.01 * torch.randn(8, 6, 7)
    features[3, :, :3] += 10
    features[5] += 1000
    colors = principal_colors(features)
    assert colors.shape == (6, 7, 3)
    assert (colors[:, :3, 0] > 0.95).all()
    assert (colors[:, 3:, 0] < 0.05).all()
    assert strongest_channels(features, 1) == [3]
    assert principal_colors(torch.randn(2, 3, 3)).shape == (3, 3, 3)


def test_heat_is_transparent_where_nothing_is_seen():
    colors = heat_colors(np.array([[np.nan, 0.0, 1.0]]))
    assert colors[0, 0, 3] == 0
    assert 0 < colors[0, 1, 3] < colors[0, 2, 3] <= 1


def test_the_query_and_its_cells_are_where_they_are_in_the_photo():
    photo = np.zeros((40, 50, 3), np.uint8)
    look = looking_inside.Look(None, "", torch.zeros(1), photo, (49.0, 0.0), 0, 0)
    assert look.position((10, 13)) == (0, 12)  # 50 pixels make 12.5 strides of 4
    assert look.box((10, 13), (0, 1), (12, 13)) == (48, 0, 52, 4)
    assert look.box((5, 6), (4, 5), (5, 6)) == (40, 32, 48, 40)  # a stride that cuts the edge off
    content = draw_panels(photo, [Panel("one", np.ones((10, 13)), outlines=[(0, 0, 8, 8)])], "title", "note", (3, 3))
    assert Image.open(io.BytesIO(content)).size[0] > 100


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_attention_to_padding_and_to_zeros_is_said():
    photo = np.zeros((40, 40, 3), np.uint8)
    for kind, stage, words in (
        ("window", 0, "goes to positions that the map was padded with"),
        ("halo", 1, "of the attention goes to zeros outside of the map"),
    ):
        look = looking_inside.Look(build(kind), kind, image(40, 40), photo, (39.0, 39.0), stage, 0)
        assert words in looking_inside.draw_attention(look)[1]
        look = looking_inside.Look(build(kind), kind, image(48, 48), np.zeros((48, 48, 3), np.uint8), (1.0, 1.0), 0, -1)
        assert "padded" not in looking_inside.draw_attention(look)[1]


class TestTool:
    def test_all_pictures_of_a_model(self, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        kinds = ["attention", "receptive", "features", "gradcam"]
        argv = ["nat_digits", str(photo), "--what", *kinds, "--out", str(tmp_path / "out"), "--query", "80", "10"]
        assert visualize.main([*argv, "--stage", "0", "--target", "3"]) == 0
        said = capsys.readouterr().out
        assert "sees 9" in said
        assert "class 3, probability" in said
        for kind in kinds:
            with Image.open(tmp_path / "out" / f"nat_digits_{kind}.png") as picture:
                assert min(picture.size) > 150

    def test_a_block_without_weights_shows_its_receptive_field(
        self, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = tmp_path / "pool.png"
        assert visualize.main(["metaformer_micro", str(photo), "--out", str(out), "--size", "32"]) == 0
        assert "its receptive field was drawn" in capsys.readouterr().out
        assert out.is_file()

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--query", "90", "0"], "--query 90 0 lies outside the picture, which is 90 wide and 60 high"),
            (["--stage", "7"], "There is no stage 7"),
            (["--head", "5"], "There is no head 5; the block has"),
            (["--what", "gradcam", "--target", "10"], "There is no class 10; the model has 10"),
            (["--what", "gradcam", "--target", "seven"], "--target seven: the model knows no such class"),
            (["--what", "gradcam", "features", "--out", "one.png"], "name a folder"),
            (["--size", "0"], "--size is one number of pixels or two"),
        ],
    )
    def test_mistakes_are_one_line(
        self, argv: list[str], message: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = [] if "--out" in argv else ["--out", str(tmp_path / "out.png")]
        assert visualize.main(["nat_digits", str(photo), *argv, *out]) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]

    def test_a_file_that_is_no_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        (tmp_path / "notes.txt").write_text("no picture")
        assert visualize.main(["metaformer_micro", str(tmp_path / "notes.txt")]) == 2
        assert "cannot be read as a picture" in capsys.readouterr().err
