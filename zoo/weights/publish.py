"""Saves models with their weights, config and model card to a folder or the Hugging Face hub."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...names import unknown_name
from ..files import sync_folder, temporary_name, write_json, write_text
from ..preprocessing import Preprocessing
from .cache import is_offline
from .card import model_card
from .carried import METADATA_KEY
from .digests import save_safetensors
from .hub import HubRepository
from .saved_config import build_config, saved_preprocessing

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

_PUSH_ADVICE = {
    401: "the hub rejected the token. Create one with write access at https://huggingface.co/settings/tokens and pass "
    "it as token=, in the environment variable HF_TOKEN, or to `hf auth login`",
    403: "the token has no write access to this repository. It needs write access, and its owner must be {owner!r} or "
    "one of its members",
    404: "there is no such repository or branch, or the token has no access to it. revision= selects a branch",
}


class PublishError(OSError):
    """A model could not be pushed to the hub; the message explains what to do."""


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
    """Saves a model to a folder, from which `create_model("local-dir:folder")` rebuilds it with its weights.

    The folder contains `model.safetensors`, `config.json` in timm's format (architecture, arguments, classes,
    preprocessing) and a model card, `README.md`. After `attnzoo.register_in_timm()`, timm and transformers' TimmWrapper
    open it, too. Before it gets its name, the model is rebuilt from it and compared, so
    a folder with that name is complete. Loading it does not run any code from it.

    Args:
        model: A backbone, a `FeatureMaps`, or a classifier task, whose backbone is saved.
        folder: Folder to save to. Other files in it are kept.
        class_names: Class names in the order of the logits.
        preprocessing: Fields of `PretrainedCfg` that describe the preprocessing if it differs from the model's own:
            mean, std, input_size, crop_pct, interpolation and others. Training and the loading of checkpoints update
            the model's own, so it is rarely needed.
        metrics: Metrics for the model card, by name: {"top-1 accuracy (%)": 81.2}.
        license: SPDX identifier of the weights' license, such as "apache-2.0"; by default that of the weights that the
            model was built with.
        description: Text for the model card.
        tag: Name of the weights, as in "nat_mini.tag".
        model_args: Arguments that the model was built with, if it was not built by `create_model`.
        repo_id: Repository that the model card's usage refers to, "owner/name".
        overwrite: Whether existing files may be replaced.

    Returns:
        The folder.

    Raises:
        ValueError: The model is not from the zoo, its arguments are unknown or cannot be written, the number of class
            names is wrong, weights are not finite, or the rebuilt model differs. Nothing is saved then.
        FileExistsError: The folder contains a model.
    """
    folder = Path(folder).expanduser()
    backbone = _find_backbone(model)
    # A task's own preprocessor is what its weights were trained with.
    own = Preprocessing.from_task(_unwrap(model)).to_dict()
    images = {**own, **(preprocessing or {})}
    config = build_config(backbone, class_names, images, license, tag, model_args)
    existing = [name for name in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE) if (folder / name).exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{str(folder)!r} already contains {', '.join(existing)}. overwrite=True replaces them.")
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(folder)
    temporary.mkdir()
    try:
        _write_weights(backbone, temporary / WEIGHTS_FILE, saved_preprocessing(config))
        write_json(temporary / CONFIG_FILE, config)
        write_text(temporary / CARD_FILE, model_card(config, parameters, metrics, description, repo_id))
        _compare_with_rebuilt(backbone, temporary)
        _move_into_place(temporary, folder)
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
    """Pushes a model to a Hugging Face hub repository, from which `create_model("hf-hub:owner/name")` rebuilds it.

    Args:
        model: See `save_pretrained`.
        repo_id: "owner/name"; the repository is created if it does not exist.
        token: Access token; by default that of `hf auth login` or the environment variable HF_TOKEN.
        private: Whether a new repository is private; by default as the owner's settings say.
        revision: Branch to push to; by default "main".
        create_pr: Open a pull request instead of committing to the branch.
        commit_message: Message of the commit.
        replace_card: Whether to replace an existing model card.
        **kwargs: Further arguments of `save_pretrained`: class_names, metrics, license and others.

    Returns:
        The URL of the commit or of the pull request.

    Raises:
        ValueError: The repository's name is invalid, or an argument of `save_pretrained` is.
        PublishError: The hub refuses or cannot be reached; the message explains what to do.
    """
    repository = HubRepository.parse(repo_id)
    if repository.revision is not None:
        raise ValueError(f"Pass the branch of {repo_id!r} as revision={repository.revision!r}.")
    wrong = set(kwargs) & {"folder", "repo_id", "overwrite"}
    if wrong:
        raise ValueError(unknown_name("argument of push_to_hub", wrong.pop(), ["class_names", "metrics", "license"]))
    if is_offline():
        raise PublishError(
            f"{repo_id!r} was not pushed: the network is disabled (ATTNZOO_OFFLINE or HF_HUB_OFFLINE is set). "
            "attnzoo.save_pretrained saves a folder that can be uploaded later."
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, Path(temporary) / "model", repo_id=repo_id, **kwargs)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            keep_card = not replace_card and api.file_exists(repo_id, CARD_FILE, revision=revision)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                ignore_patterns=[CARD_FILE] if keep_card else None,
            )
        except HFValidationError as error:
            raise ValueError(f"{repo_id!r} is not a valid repository name: {error}") from error
        except Exception as error:  # huggingface_hub raises the errors of its HTTP library
            raise _push_error(repo_id, error) from error
    return commit.pr_url or commit.commit_url


def _push_error(repo_id: str, error: Exception) -> PublishError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "LocalTokenNotFoundError":
        status = 401
    other = "the hub could not be reached" if status is None else f"the hub answered {status}"
    advice = _PUSH_ADVICE.get(status or 0, other).format(owner=repo_id.split("/")[0])
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return PublishError(f"The model was not pushed to 'hf-hub:{repo_id}': {advice} ({reason}).")


def _find_backbone(model: nn.Module) -> Any:
    """Returns the module to save: the model itself, or the backbone of a classifier."""
    inner = _unwrap(model)
    if getattr(inner, "kind", "classification") != "classification":
        raise ValueError(
            f"{type(inner).__name__} is a detector or segmentor, which create_model does not build: save its "
            "`backbone`, or share its config and a checkpoint."
        )
    inner = inner.backbone if isinstance(getattr(inner, "backbone", None), nn.Module) else inner
    if not (getattr(inner, "pretrained_cfg", None) or {}).get("architecture"):
        raise ValueError(f"{type(inner).__name__} is not a model of the zoo: it has no pretrained_cfg.")
    return inner


def _unwrap(model: nn.Module) -> Any:
    """Returns the model inside torch.compile and DistributedDataParallel."""
    inner: Any = model
    for name in ("_orig_mod", "module"):
        inner = getattr(inner, name, inner)
    return inner


def _write_weights(model: nn.Module, path: Path, preprocessing: Preprocessing) -> None:
    """Writes a model's weights as safetensors; raises a ValueError if a tensor has no values or infinite ones."""
    tensors = {}
    for name, value in model.state_dict().items():
        if value.is_meta:
            raise ValueError(f"{name!r} is on the meta device, which stores no values: there is nothing to save.")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name!r} has values that are not finite.")
        tensors[name] = value.detach().cpu().contiguous().clone()
    save_safetensors(tensors, path, {"format": "pt", METADATA_KEY: json.dumps(preprocessing.to_dict())})
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _compare_with_rebuilt(model: nn.Module, folder: Path) -> None:
    """Raises a ValueError unless a model that is rebuilt from a folder has the same weights."""
    from ..factory import create_model

    advice = "If the model was built with other arguments, pass them as model_args=."
    try:
        rebuilt = create_model(f"local-dir:{folder}", pretrained=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"The model cannot be rebuilt from the files to be saved: {error} {advice}") from error
    own, other = model.state_dict(), rebuilt.state_dict()
    different = [
        name
        for name in {**own, **other}
        if name not in own or name not in other or not torch.equal(own[name].cpu().to(other[name].dtype), other[name])
    ]
    if different:
        raise ValueError(
            f"The model that is rebuilt from the files to be saved differs in {', '.join(different[:8])}. {advice}"
        )


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Renames a complete folder, or moves its files into an existing one, the config last."""
    if not folder.exists():
        os.replace(temporary, folder)
        sync_folder(folder.parent)
        return
    # A folder without config.json is not a model, so a mixture of old and new files is never loaded.
    with contextlib.suppress(FileNotFoundError):
        (folder / CONFIG_FILE).unlink()
    for name in (WEIGHTS_FILE, CARD_FILE, CONFIG_FILE):
        os.replace(temporary / name, folder / name)
    sync_folder(folder)
