"""Model cards for repositories on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .saved_config import TIMM_PREFIX

_MAX_CLASSES = 30  # class names that a card lists

_TEMPLATE = """\
---
{{ card_data }}
---

# {{ title }}

{% if description %}{{ description }}

{% endif -%}
A `{{ architecture }}` of [attnzoo](https://pypi.org/project/attnzoo/) {{ output }}.

## Model

- Parameters: {{ "%.2f" | format(parameters / 1e6) }} M
{% if images.input_size -%}
- Input: {{ images.input_size[1] }} x {{ images.input_size[2] }} pixels, {{ images.input_size[0] }} channels
{% endif -%}
- Normalization: mean {{ images.mean | join(", ") }}, std {{ images.std | join(", ") }}
- Resizing: {{ images.interpolation }}, crop {{ images.crop_mode }} with {{ images.crop_pct }} of the shorter side
{% if model_args -%}
- Arguments: `{{ model_args }}`
{% endif %}
{% if metrics -%}
## Metrics

| Metric | Value |
|---|---|
{% for name, value in metrics.items() -%}
| {{ name }} | {{ "%g" | format(value) }} |
{% endfor %}
{% endif -%}
## Usage

```python
import torch
import attnzoo

model = attnzoo.create_model("{{ source }}", pretrained=True).eval()
images = torch.randn(1, 3, {{ height }}, {{ width }})  # normalized with the mean and std above
{{ "maps" if features_only else "logits" }} = model(images)
```
{% if not features_only %}
Feature maps for detection and segmentation:

```python
backbone = attnzoo.create_model("{{ source }}", pretrained=True, features_only=True)
```
{% endif %}
{% if classes -%}
## Classes

{{ classes[:max_classes] | join(", ") }}
{%- if classes | length > max_classes %}, and {{ classes | length - max_classes }} more (see config.json){% endif %}.

{% endif -%}
{% if images.paper -%}
## Paper

The architecture was published in "{{ images.paper }}"{% if images.paper_url %} ({{ images.paper_url }}){% endif %}.

{% endif -%}
## License

{{ images.license or "Not specified." }}
"""


def model_card(
    config: Mapping[str, Any],
    parameters: int,
    metrics: Mapping[str, float] | None = None,
    description: str = "",
    repo_id: str | None = None,
) -> str:
    """Writes a model card.

    Args:
        config: Content of config.json.
        parameters: Number of parameters.
        metrics: Metrics by name.
        description: Text by the model's author.
        repo_id: Repository that the usage refers to, "owner/name"; None for a local folder.

    Returns:
        Markdown with a YAML header, as the Hugging Face hub reads it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    images = {**config["pretrained_cfg"], **config.get("attnzoo", {}).get("pretrained_cfg", {})}
    architecture = config["architecture"].removeprefix(TIMM_PREFIX)
    features_only = bool(config["model_args"].get("features_only"))
    output = f"that classifies images into {config['num_classes']} classes"
    if features_only or not config["num_classes"]:
        output = "that returns feature maps" if features_only else "without a classifier"
    task = "image-feature-extraction" if features_only else "image-classification"
    license = images.get("license")
    known = license is None or " " not in license  # the hub expects an identifier
    card_data = ModelCardData(
        library_name="attnzoo",
        pipeline_tag=task,
        tags=["attnzoo", "timm", task],
        license=license if known else "other",
        license_name=None if known else license,
    )
    _, height, width = images.get("input_size") or (3, 224, 224)
    card = ModelCard.from_template(
        card_data,
        template_str=_TEMPLATE,
        title=repo_id or f"{architecture}.{images['tag']}",
        description=description.strip(),
        architecture=architecture,
        output=output,
        parameters=parameters,
        images=images,
        model_args=json.dumps(config["model_args"], ensure_ascii=False) if config["model_args"] else "",
        metrics=metrics,
        source=f"hf-hub:{repo_id}" if repo_id else "local-dir:path/to/this/folder",
        height=height,
        width=width,
        features_only=features_only,
        classes=config.get("label_names"),
        max_classes=_MAX_CLASSES,
    )
    return str(card)
