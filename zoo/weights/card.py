"""Model cards: what a reader of a hub repository must know of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_MOST_CLASSES = 30  # named in a card


def model_card(
    config: Mapping[str, Any],
    parameters: int,
    metrics: Mapping[str, float] | None = None,
    description: str = "",
    repo_id: str | None = None,
) -> str:
    """Writes a model card.

    Args:
        config: the content of config.json.
        parameters: how many the model has.
        metrics: figures by name.
        description: sentences of the model's author.
        repo_id: "owner/name" of the repository; None for a folder on a disk.

    Returns:
        Markdown, after a head of YAML as the Hugging Face hub reads it.
    """
    name = config["architecture"]
    images = config["pretrained_cfg"]
    maps_only = bool(config.get("attnzoo", {}).get("features_only"))
    source = f"hf-hub:{repo_id}" if repo_id else "local-dir:path/to/this/folder"
    title = repo_id or f"{name}.{images['tag']}"
    sections = [
        _head(images, maps_only),
        f"# {title}",
        description.strip(),
        f"A `{name}` of [attnzoo](https://pypi.org/project/attnzoo/), {_kind(config, maps_only)}.",
        "## Model",
        _list(_facts(config, parameters)),
        _figures(metrics),
        "## Usage",
        _usage(source, images, maps_only),
        _classes(config),
        _paper(images),
        "## Licence",
        images.get("license") or "Not stated.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(images: Mapping[str, Any], maps_only: bool) -> str:
    lines = ["tags:", "- attnzoo", "- timm", f"- {'image-feature-extraction' if maps_only else 'image-classification'}"]
    lines += [
        "library_name: attnzoo",
        f"pipeline_tag: {'image-feature-extraction' if maps_only else 'image-classification'}",
    ]
    text = images.get("license")
    if text and " " not in text:
        lines.append(f"license: {text}")
    elif text:
        lines += ["license: other", f"license_name: {json.dumps(text)}"]
    return "\n".join(["---", *lines, "---"])


def _kind(config: Mapping[str, Any], maps_only: bool) -> str:
    if maps_only:
        return "without classifier, for feature maps"
    return f"which tells {config['num_classes']} classes apart" if config["num_classes"] else "without classifier"


def _facts(config: Mapping[str, Any], parameters: int) -> list[tuple[str, str]]:
    images = config["pretrained_cfg"]
    facts = [("Parameters", f"{parameters / 1e6:.2f} M")]
    size = images.get("input_size")
    if size:
        facts.append(("Images", f"{size[1]} x {size[2]} pixels, {size[0]} channels"))
    facts.append(("Normalisation", f"mean {_numbers(images.get('mean'))}, std {_numbers(images.get('std'))}"))
    if config["model_args"]:
        facts.append(("Arguments", f"`{json.dumps(config['model_args'], ensure_ascii=False)}`"))
    return facts


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values or ())


def _list(facts: list[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts)


def _figures(metrics: Mapping[str, float] | None) -> str:
    if not metrics:
        return ""
    rows = [f"| {name} | {value:g} |" for name, value in metrics.items()]
    return "\n".join(["## Figures", "", "| Metric | Value |", "|---|---|", *rows])


def _usage(source: str, images: Mapping[str, Any], maps_only: bool) -> str:
    _, height, width = images.get("input_size") or (3, 224, 224)
    lines = [
        "```python",
        "import torch",
        "import attnzoo",
        "",
        f'model = attnzoo.create_model("{source}", pretrained=True).eval()',
        f"images = torch.randn(1, 3, {height}, {width})  # normalised with the mean and std above",
        "maps = model(images)" if maps_only else "logits = model(images)",
        "```",
    ]
    if not maps_only:
        lines += [
            "",
            "Feature maps for detection and segmentation:",
            "",
            "```python",
            f'body = attnzoo.create_model("{source}", pretrained=True, features_only=True)',
            "```",
        ]
    return "\n".join(lines)


def _classes(config: Mapping[str, Any]) -> str:
    names = config.get("label_names")
    if not names:
        return ""
    rest = f", and {len(names) - _MOST_CLASSES} more (in config.json)" if len(names) > _MOST_CLASSES else ""
    return f"## Classes\n\n{', '.join(names[:_MOST_CLASSES])}{rest}."


def _paper(images: Mapping[str, Any]) -> str:
    if not images.get("paper"):
        return ""
    where = f" ({images['paper_url']})" if images.get("paper_url") else ""
    return f'## Paper\n\nThe architecture is that of "{images["paper"]}"{where}.'
