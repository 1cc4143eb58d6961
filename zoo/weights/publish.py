"""Giving models away: a folder or hub repository of weights, a config and a model card, for `create_model` to read."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...backbones.common.layers import FeatureMaps
from ...names import unknown_name
from ..files import sync_folder, temporary_name, write_json, write_text
from .cache import is_offline
from .card import model_card
from .hub import HubRepository

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
FORMAT = 1
"""Version of the entry "attnzoo" of config.json."""

_LEFT_OUT = {
    "url",
    "file",
    "hf_hub_id",
    "hf_hub_filename",
    "sha256",
    "verified",
    "broken",
    "top1",
    "origin_url",
    "note",
}
"""What a published configuration says of other weights than these."""


class PublishError(OSError):
    """A model could not be handed to the hub; the message says what to do."""


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    description: str = "",
    tag: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a folder from which `create_model("local-dir:folder")` builds the same model with the same weights.

    The folder holds `model.safetensors`, `config.json` in timm's form (the architecture, its arguments, classes, how
    images are prepared) and a model card, `README.md`. It is written elsewhere, loaded and compared, and only then gets
    its name: a folder of that name is complete. Nothing in it is run by whoever loads it.

    Args:
        model: a backbone, a `FeatureMaps`, or a classifier task, whose backbone is taken.
        folder: where to. Other files in it are kept.
        class_names: of the classes, in the order of the logits.
        preprocessing: fields of `PretrainedCfg` that say how images are prepared, where they differ from those that the
            model carries: mean, std, input_size, crop_pct, interpolation, ...
        metrics: figures for the model card, by name: {"top-1 accuracy (%)": 81.2}.
        license: SPDX identifier of the weights' licence, such as "apache-2.0"; by default what is known of the weights
            that the model was built with.
        description: sentences for the model card.
        tag: a name for the weights, as in "nat_mini.tag".
        model_args: the arguments that the model was built with, where it was not built by `create_model`.
        repo_id: the repository that the card's usage shows, "owner/name".
        overwrite: whether files of these names that are there may be replaced.

    Returns:
        The folder.

    Raises:
        ValueError: the model is none of the zoo's, its arguments are unknown or cannot be written, the number of class
            names is wrong, weights are not finite, or what was written does not give the same model; then nothing is
            kept.
        FileExistsError: there is a model in the folder.
    """
    folder = Path(folder).expanduser()
    backbone = _backbone_of(model)
    config = _config_of(backbone, class_names, preprocessing, license, tag, model_args)
    there = [name for name in (WEIGHTS, CONFIG, CARD) if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"There is {', '.join(there)} in {str(folder)!r} already; overwrite=True replaces it.")
    card = model_card(config, parameters=_count(backbone), metrics=metrics, description=description, repo_id=repo_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(folder)
    temporary.mkdir()
    try:
        _write_weights(backbone, temporary / WEIGHTS)
        write_json(temporary / CONFIG, config)
        write_text(temporary / CARD, card)
        _check(backbone, temporary)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Add model",
    replace_card: bool = False,
    **kwargs: Any,
) -> str:
    """Hands a model to a repository of the Hugging Face hub, from which `create_model("hf-hub:owner/name")` builds it.

    Args:
        model: see `save_pretrained`.
        repo_id: "owner/name"; made where it does not exist.
        token: of the hub; by default what `hf auth login` keeps, or the environment variable HF_TOKEN.
        private: whether a repository that is made is private; by default what the owner's settings say.
        revision: branch to write to; by default "main".
        create_pr: open a pull request instead of writing to the branch.
        commit_message: of the commit.
        replace_card: whether a model card that is there is replaced.
        **kwargs: further arguments of `save_pretrained`: class_names, metrics, license, ...

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        ValueError: the name is none, or see `save_pretrained`.
        PublishError: the hub refuses or cannot be reached; the message says what to do.
    """
    name = HubRepository.parse(repo_id)
    if name.revision is not None:
        raise ValueError(f"{repo_id!r}: the branch to write to is given as revision={name.revision!r}.")
    wrong = set(kwargs) & {"folder", "repo_id", "overwrite"}
    if wrong:
        raise ValueError(unknown_name("argument of push_to_hub", wrong.pop(), ["class_names", "metrics", "license"]))
    if is_offline():
        raise PublishError(
            f"{repo_id!r} was not written: the network is switched off (ATTNZOO_OFFLINE or HF_HUB_OFFLINE). "
            "attnzoo.save_pretrained writes a folder that can be uploaded later."
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, Path(temporary) / "model", repo_id=repo_id, **kwargs)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            kept = [] if replace_card or not api.file_exists(repo_id, CARD, revision=revision) else [CARD]
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                ignore_patterns=kept or None,
            )
        except HFValidationError as error:
            raise ValueError(f"{repo_id!r} is no name of a repository: {error}") from error
        except Exception as error:  # huggingface_hub passes on what its HTTP library raises
            raise PublishError(_explain(repo_id, error)) from error
    return commit.pr_url or commit.commit_url


def _explain(repo_id: str, error: Exception) -> str:
    """Says why the hub refused, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    if status == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        advice = (
            "the hub does not know who you are. Make a token with the right to write at "
            "https://huggingface.co/settings/tokens and give it as token=, as the environment variable HF_TOKEN, or to "
            "`hf auth login`"
        )
    elif status == 403:
        advice = (
            f"the token may not write there. It needs the right to write, and its owner to be "
            f"{repo_id.split('/')[0]!r} or a member of it"
        )
    elif status == 404:
        advice = "there is no such repository or branch, or the token may not see it; revision= names a branch"
    elif status is not None:
        advice = f"the hub answered {status}"
    else:
        advice = "the hub could not be reached"
    return f"The model was not handed to 'hf-hub:{repo_id}': {advice} ({reason})."


def _backbone_of(model: nn.Module) -> Any:
    """Finds what can be written: the model itself, or the backbone of a classifier."""
    inner: Any = model
    for name in ("_orig_mod", "module"):
        inner = getattr(inner, name, inner)
    if getattr(inner, "kind", "classification") != "classification":
        raise ValueError(
            f"{type(inner).__name__} is a detector or segmentor, which create_model does not build: save its "
            "`backbone`, or share its config and a checkpoint."
        )
    inner = inner.backbone if isinstance(getattr(inner, "backbone", None), nn.Module) else inner
    if not (getattr(inner, "pretrained_cfg", None) or {}).get("architecture"):
        raise ValueError(f"{type(inner).__name__} is none of the zoo's models: it carries no pretrained_cfg.")
    return inner


def _config_of(
    backbone: Any,
    class_names: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    license: str | None,
    tag: str | None,
    model_args: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Makes the content of config.json."""
    from ...backbones.registry import PretrainedCfg, model_arguments

    carried: dict[str, Any] = {**backbone.pretrained_cfg}
    body = backbone.body if isinstance(backbone, FeatureMaps) else backbone
    architecture = carried.pop("architecture")
    arguments = getattr(body, "model_args", None) if model_args is None else model_args
    if arguments is None:
        raise ValueError(
            f"It is not known with which arguments this {architecture} was built: give them as model_args=dict(...), "
            "or build it with attnzoo.create_model."
        )
    allowed = model_arguments(architecture)
    for name in arguments:
        if allowed is not None and name not in allowed:
            raise ValueError(unknown_name(f"argument of {architecture}", name, allowed))
    arguments = {name: _plain(name, value) for name, value in arguments.items() if name != "num_classes"}
    classes = int(getattr(backbone, "num_classes", 0))
    names = carried.pop("label_names", None) if class_names is None else class_names
    if names is not None and not isinstance(backbone, FeatureMaps):
        names = [str(name) for name in names]
        if len(names) != classes:
            raise ValueError(f"There are {len(names)} class_names, but the model tells {classes} classes apart.")
    images: dict[str, Any] = {name: value for name, value in carried.items() if name not in _LEFT_OUT}
    fields = PretrainedCfg.__dataclass_fields__
    for name in preprocessing or {}:
        if name not in fields or name in _LEFT_OUT:
            raise ValueError(unknown_name("field of preprocessing", name, set(fields) - _LEFT_OUT, most=0))
    images |= preprocessing or {}
    if license is not None:
        images["license"] = license
    images["tag"] = tag or "saved"
    images["num_classes"] = classes
    if not isinstance(backbone, FeatureMaps) and "global_pool" in (allowed or ()):
        arguments["global_pool"] = backbone.head.global_pool
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": body.num_features,
        "model_args": arguments,
        "pretrained_cfg": {name: _plain(name, value) for name, value in images.items()},
        "attnzoo": {"format": FORMAT, "versions": _versions()},
    }
    if isinstance(backbone, FeatureMaps):
        config["attnzoo"] |= {"features_only": True, "out_indices": list(backbone.out_indices)}
    if names is not None and not isinstance(backbone, FeatureMaps):
        config["label_names"] = names
    return config


def _versions() -> dict[str, str]:
    found = {}
    for name in ("attnzoo", "torch", "timm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _plain(name: str, value: Any) -> Any:
    """Gives a value as JSON has it; raises a ValueError for what JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, one) for one in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(
        f"The argument {name} = {value!r} cannot be written as text, so nobody could build the model again from a "
        "file: only numbers, texts, and lists and dicts of them can."
    )


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _write_weights(model: nn.Module, path: Path) -> None:
    """Writes a model's weights as safetensors, each tensor by itself.

    Raises:
        ValueError: a tensor has no values, or values that are not finite.
    """
    from safetensors.torch import save_file

    tensors = {}
    for name, value in model.state_dict().items():
        if value.is_meta:
            raise ValueError(f"{name!r} is on the meta device, which holds no values: there is nothing to save.")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name!r} has values that are not finite: these weights are broken.")
        tensors[name] = value.detach().cpu().contiguous().clone()
    save_file(tensors, path, metadata={"format": "pt"})
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _check(model: nn.Module, folder: Path) -> None:
    """Raises a ValueError unless what a folder holds builds the same model with the same weights."""
    from ..factory import create_model

    advice = "Were the arguments that it was built with other ones? model_args= says them."
    try:
        again = create_model(f"local-dir:{folder}", pretrained=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"The model cannot be built again from what would be saved: {error} {advice}") from error
    own, other = model.state_dict(), again.state_dict()
    different = [
        name
        for name in {**own, **other}
        if name not in own or name not in other or not torch.equal(own[name].cpu().to(other[name].dtype), other[name])
    ]
    if different:
        raise ValueError(
            f"The model that is built from what would be saved differs in {', '.join(different[:8])}. {advice}"
        )


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Gives a finished folder its name, or moves its files into the folder that is there, the config last."""
    if not folder.exists():
        os.replace(temporary, folder)
        sync_folder(folder.parent)
        return
    # Without its config a folder names no model, so that half of the old and half of the new is never loaded.
    with contextlib.suppress(FileNotFoundError):
        (folder / CONFIG).unlink()
    for name in (WEIGHTS, CARD, CONFIG):
        os.replace(temporary / name, folder / name)
    sync_folder(folder)
