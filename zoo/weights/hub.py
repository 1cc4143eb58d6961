"""Files of repositories on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import checkpoints_dir, is_offline
from .download import DownloadError


@dataclass(frozen=True)
class HubRepository:
    """A repository on the Hugging Face hub, written as `owner/name` or `owner/name@revision`."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubRepository:
        """Parses `owner/name[@revision]`.

        Raises:
            ValueError: The text has another form.
        """
        name, _, revision = text.partition("@")
        if name.count("/") != 1 or not all(name.split("/")):
            raise ValueError(f"{text!r} is not a repository on the Hugging Face hub: 'hf-hub:owner/name' is expected.")
        return cls(name, revision or None)

    def manual_path(self, filename: str, cache_dir: str | os.PathLike[str] | None) -> Path:
        """Returns where a manually downloaded file is looked for before the network is used."""
        folder = checkpoints_dir(cache_dir) / "hf-hub" / self.name
        return (folder / self.revision if self.revision else folder) / filename

    def url(self, filename: str) -> str:
        """Returns the URL of a file for a browser."""
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return f"{endpoint.rstrip('/')}/{self.name}/resolve/{self.revision or 'main'}/{filename}"


def fetch_from_hub(
    repository: HubRepository,
    filenames: Sequence[str],
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Downloads the first file of a list that exists in a repository, unless it is cached.

    A file at the path that the error message suggests for manual downloads takes precedence over the network.

    Args:
        repository: Repository to download from.
        filenames: Names to try, in this order.
        cache_dir: Cache folder; by default the one of huggingface_hub.
        progress: Whether to show a progress bar.

    Returns:
        The path of the local file.

    Raises:
        DownloadError: None of the files could be downloaded.
    """
    for filename in filenames:
        path = repository.manual_path(filename, cache_dir)
        if path.is_file():
            return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    options = {
        "revision": repository.revision,
        "cache_dir": None if cache_dir is None else Path(cache_dir).expanduser(),
        "endpoint": os.environ.get("HF_ENDPOINT"),
        "local_files_only": is_offline(),
    }
    unreachable: Exception | None = None
    with _progress_bars(progress):
        for filename in filenames:
            try:
                return Path(hf_hub_download(repository.name, filename, **options))
            except LocalEntryNotFoundError as error:
                unreachable = error
                if not is_offline():  # the hub cannot be reached; offline, another name may be cached
                    break
            except EntryNotFoundError:
                unreachable = None
            except RepositoryNotFoundError as error:
                reason = "the repository does not exist, or it is private"
                raise _download_error(repository, filenames[0], cache_dir, reason) from error
            except Exception as error:  # huggingface_hub raises the errors of its HTTP library
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise _download_error(repository, filename, cache_dir, reason) from error
    if unreachable is not None:
        reason = "the network is disabled" if is_offline() else "the hub cannot be reached"
        raise _download_error(repository, filenames[0], cache_dir, reason) from unreachable
    raise DownloadError(
        f"'hf-hub:{repository.name}' has none of the files {', '.join(filenames)}. Choose one with filename=."
    )


@contextlib.contextmanager
def _progress_bars(enabled: bool) -> Iterator[None]:
    """Disables huggingface_hub's progress bars if they are not wanted."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disable = not enabled and not are_progress_bars_disabled()
    if disable:
        disable_progress_bars()
    try:
        yield
    finally:
        if disable:
            enable_progress_bars()


def _download_error(
    repository: HubRepository, filename: str, cache_dir: str | os.PathLike[str] | None, reason: str
) -> DownloadError:
    return DownloadError(
        f"Could not download {filename!r} from 'hf-hub:{repository.name}': {reason}.\nDownload "
        f"{repository.url(filename)} manually, for example with a browser on another machine, save it as\n"
        f"    {repository.manual_path(filename, cache_dir)}\nand run the same call again."
    )
