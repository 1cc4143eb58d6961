"""RoI heads against the official ones: raw outputs, detections, masks, losses and targets."""

import pytest
import torch

from support import head_packs
from support.roi_packs import PACKS, Seen, loaded_roi_head, rle

torch.set_num_threads(1)


def cases(*calls):
    return [
        pytest.param(name, case, id=f"{name}-{case}") for name in PACKS for case in head_packs.case_names(name, *calls)
    ]


def check_raw(seen, case, tensors):
    """Compares what the box heads said of all regions of the batch."""
    outputs = case["outputs"]
    for stage, (logits, shifts) in enumerate(seen.boxes):
        suffix = f"_s{stage}" if f"cls_score_s{stage}" in outputs else ""
        head_packs.check(logits, case, tensors, f"cls_score{suffix}")
        head_packs.check(shifts, case, tensors, f"bbox_pred{suffix}")
    assert len(seen.boxes) == sum(name.startswith("cls_score") for name in outputs)


def check_masks(seen, found, case, tensors):
    """Compares the small masks of the detections' own classes, and the pasted ones."""
    counts = [len(one) for one in found]
    labels = torch.cat([one.labels for one in found])
    stages = [one[torch.arange(len(labels)), labels] for one in seen.masks]
    logits = "mask_logits_0" in case["outputs"]
    small = stages[0] if logits else torch.stack([one.sigmoid() for one in stages]).mean(0)
    for image, (maps, one) in enumerate(zip(small.split(counts), found, strict=True)):
        head_packs.check(maps, case, tensors, f"{'mask_logits' if logits else 'mask_probs'}_{image}")
        assert one.masks.dtype == torch.bool
        golden = case["rle"][image]
        assert golden
        assert [rle(mask) for mask in one.masks[: len(golden)]] == golden
        head_packs.check(one.masks.float(), case, tensors, f"masks_{image}", tolerance=0.0)
        head_packs.check(one.masks.sum((1, 2)).float(), case, tensors, f"mask_areas_{image}", tolerance=0.0)


def check_predictions(head, features, proposals, case, tensors):
    infos = head_packs.infos(case)
    with Seen(head) as seen:
        found = head.predict(features, proposals, infos, rescale=case["inputs"]["rescale"])
    check_raw(seen, case, tensors)
    assert [len(one) for one in found] == case["found"]["detections"]
    for image, one in enumerate(found):
        head_packs.check_detections(one, case, tensors, image)
        assert torch.equal(one.labels.float(), tensors[f"{case['name']}/labels_{image}"].reshape(-1).float())
    if head.with_mask:
        check_masks(seen, found, case, tensors)
    else:
        assert all(one.masks is None for one in found)


@pytest.mark.parametrize(("name", "case_name"), cases("predict_given"))
def test_detections_of_given_proposals(name, case_name):
    pack, tensors = head_packs.load(name)
    case = head_packs.case_of(pack, case_name)
    head = loaded_roi_head(name)
    check_predictions(head, head_packs.features(case), head_packs.proposals(case, tensors), case, tensors)
