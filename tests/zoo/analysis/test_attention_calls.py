"""Keys, regions and agents of single queries."""

from __future__ import annotations

import torch

from attnzoo.zoo.analysis.attention_calls import AgentAttentionCall, RoutedAttentionCall
from attnzoo.zoo.analysis.attention_maps import record_attention
from support.attention_models import build, image


def test_neighborhoods_have_their_shape():
    recorded = record_attention(build("dilated"), image(96, 96), 0, 0)
    mask = recorded.query_attention(10, 12).mask
    rows, cols = (sorted(set(places.tolist())) for places in mask.nonzero().T)
    assert (rows, cols) == ([8, 10, 12], [10, 12, 14])
    assert int(recorded.query_attention(0, 0).mask.sum()) == 9
    halo = record_attention(build("halo"), image(64, 64), 0, 1)
    inner, corner = halo.query_attention(5, 5), halo.query_attention(0, 0)
    assert int(inner.mask.sum()) == 36
    assert float(inner.off_map.max()) == 0
    assert int(corner.mask.sum()) == 25  # of a window of 36 that reaches outside
    assert float(corner.off_map.min()) > 0
    masked = record_attention(build("masked halo"), image(64, 64), 0, 1).query_attention(0, 0)
    assert float(masked.off_map.max()) == 0


def test_routed_regions_are_those_of_the_module():
    model = build("routed and whole map")
    given = []
    attn = model.stages[1].blocks[0].attn
    handle = attn.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    recorded = record_attention(model, image(96, 96), 1, 0)
    handle.remove()
    assert isinstance(recorded.calls[0], RoutedAttentionCall)
    with torch.no_grad():
        routes = attn.routes(given[0])
    attention = recorded.query_attention(5, 1)  # regions are 4 x 4 positions: row 1, column 0
    assert [top // 4 * 3 + left // 4 for top, left, _, _ in attention.regions] == routes[0, 3].tolist()
    assert int(attention.mask.sum()) == 2 * 16


def test_agents_are_the_product_of_two_steps():
    model = build("agent and shifted windows")
    recorded = record_attention(model, image(64, 64), 0, 0)
    (call,) = recorded.calls
    assert isinstance(call, AgentAttentionCall)
    attention = recorded.query_attention(3, 7)
    assert attention.agent_probs is not None
    by_hand = torch.zeros_like(attention.probs)
    gathered = call.aggregation.probs()
    for agent in range(4):
        by_hand += attention.agent_probs[:, agent, None, None] * gathered[:, agent].view(-1, 16, 16)
    torch.testing.assert_close(attention.probs, by_hand)
    torch.testing.assert_close(attention.agent_probs.sum(-1), torch.ones(2))
