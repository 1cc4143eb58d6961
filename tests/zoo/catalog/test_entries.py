"""The entries of the catalog agree with the recipes, and are found by name, task, data set and family."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.catalog import Checkpoint, entries, get_checkpoint, list_checkpoints, register_checkpoint
from attnzoo.zoo.weights.download import ChecksumError, DownloadError
from support.catalog import problems

from ..weights.local_server import Served, Server

NAT = Checkpoint(
    name="nat_mini_mask-rcnn_3x_coco",
    family="nat",
    task="detection",
    config="nat_mini_mask-rcnn_3x_coco",
    urls=("https://example.org/nat_mini_maskrcnn.pth",),
    license="MIT",
    source="a test",
    metrics={"bbox_mAP": 46.5, "segm_mAP": 41.7},
)
DAVIT = Checkpoint(
    name="davit_tiny_upernet_160k_ade20k",
    family="davit",
    task="segmentation",
    config="davit_tiny_upernet_160k_ade20k",
    urls=("https://example.org/davit.pth",),
    license="MIT",
    source="a test",
    metrics={"mIoU": 46.3},
)


def test_every_entry_agrees_with_its_recipe():
    assert {name: found for name, entry in entries.all_checkpoints().items() if (found := problems(entry))} == {}


def test_the_documentation_counts_the_entries():
    document = Path(__file__).parents[3] / "docs" / "detection_and_segmentation.md"
    assert f"lists the {len(list_checkpoints())} files" in document.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"task": "segmentation"}, "the task of the config is detection"),
        ({"family": "van"}, "not of the family van"),
        ({"metrics": {"bbox_mAP": 46.4, "segm_mAP": 41.7}}, "the docstring of the config states"),
        ({"metrics": {"bbox_mAP": 46.5}}, "the docstring of the config states"),
        ({"metrics": {"mIoU": 45.1}}, "the evaluator does not report"),
        ({"name": "nat_mini_mask-rcnn_9x_coco", "config": "nat_mini_mask-rcnn_9x_coco"}, "there is no config"),
    ],
)
def test_the_comparison_with_a_recipe_finds_differences(change: dict[str, Any], problem: str | None):
    found = problems(dataclasses.replace(NAT, **change))
    assert any(problem in one for one in found) if problem else found == []
    assert problems(DAVIT) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "detections"}, "Unknown task 'detections'. Did you mean 'detection'"),
        ({"name": "nat_mini"}, "must be its config's, 'nat_mini_mask-rcnn_3x_coco'"),
        ({"urls": ()}, "at least one URL"),
        ({"urls": "https://example.org/a.pth"}, "must be a tuple"),
        ({"urls": ("ftp://example.org/a.pth",)}, "is not an http or https URL"),
        ({"sha256": "abc"}, "8 to 64 hexadecimal digits"),
    ],
)
def test_wrong_fields_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(NAT, **change)


@pytest.mark.usefixtures("catalog")
def test_names_and_urls_are_unique():
    register_checkpoint(NAT)
    with pytest.raises(ValueError, match="already has a checkpoint 'nat_mini_mask-rcnn_3x_coco'"):
        register_checkpoint(NAT)
    other = dataclasses.replace(NAT, name=f"{NAT.name}.other")
    with pytest.raises(ValueError, match="have the same URL"):
        register_checkpoint(other)
    with pytest.raises(ValueError, match="has a URL twice"):
        register_checkpoint(dataclasses.replace(other, urls=("https://example.org/b.pth",) * 2))
    register_checkpoint(dataclasses.replace(other, urls=("https://example.org/b.pth",)))
    assert other.name in list_checkpoints()


@pytest.mark.usefixtures("catalog")
def test_checkpoints_are_listed_by_task_data_set_and_family():
    register_checkpoint(NAT)
    register_checkpoint(DAVIT)
    for options, expected in [
        ({}, {NAT.name, DAVIT.name}),
        ({"task": "detection"}, {NAT.name}),
        ({"dataset": "ade20k"}, {DAVIT.name}),
        ({"family": "davit"}, {DAVIT.name}),
        ({"family": "davit", "task": "detection"}, set()),
    ]:
        assert {NAT.name, DAVIT.name} & set(list_checkpoints(**options)) == expected
    for options, message in [
        ({"task": "detections"}, "Did you mean 'detection'"),
        ({"dataset": "ade"}, "Did you mean 'ade20k'"),
        ({"family": "davt"}, "Did you mean 'davit'"),
    ]:
        with pytest.raises(ValueError, match=message):
            list_checkpoints(**options)


@pytest.mark.usefixtures("catalog")
def test_an_unknown_name_gets_the_nearest_one():
    register_checkpoint(NAT)
    assert get_checkpoint(NAT.name) is NAT
    with pytest.raises(ValueError, match=r"Did you mean 'nat_mini_mask-rcnn_3x_coco"):
        get_checkpoint("nat_mini_maskrcnn_3x_coco")


def test_data_sets_are_named_as_in_recipes():
    assert NAT.dataset == "coco"
    assert entries.dataset_of("dinat_large_upernet_160k_ade20k-640") == "ade20k"


def test_a_file_is_downloaded_once_from_the_first_url_that_works(server: Server, tmp_path: Path):
    content = b"weights"
    mirror = Served(content)
    urls = (f"{server.address}/gone.pth", server.serve("/mirror.pth", mirror))
    entry = dataclasses.replace(NAT, urls=urls, sha256=hashlib.sha256(content).hexdigest())
    path = entry.fetch(cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == content
    assert entry.fetch(cache_dir=tmp_path, progress=False) == path
    assert len(mirror.requests) == 1
    with pytest.raises(ChecksumError, match="sha256"):
        dataclasses.replace(entry, urls=urls[1:], sha256="0" * 64).fetch(cache_dir=tmp_path)


def test_without_a_network_the_message_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match=re.escape(f"save it as\n    {tmp_path / 'nat_mini_maskrcnn.pth'}")):
        NAT.fetch(cache_dir=tmp_path)
    (tmp_path / "nat_mini_maskrcnn.pth").write_bytes(b"by hand")
    assert NAT.fetch(cache_dir=tmp_path).read_bytes() == b"by hand"
