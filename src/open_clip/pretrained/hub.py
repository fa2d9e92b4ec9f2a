"""Files of the Hugging Face hub, through its own client, which caches, locks and resumes. Nothing else is fetched."""

from collections.abc import Iterator

from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.errors import CheckpointError, MissingDependency, first_line, printable

_UNSAFE_SUFFIXES = (".bin", ".pth")


def has_hf_hub(necessary: bool = False) -> bool:
    """Tell whether the hub's client is installed.

    Raises:
        MissingDependency: it is not and ``necessary`` is set.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        if necessary:
            raise MissingDependency(
                "weights of the Hugging Face hub need huggingface_hub: pip install huggingface_hub"
            ) from None
        return False
    return True


def _names_to_try(filename: str | None) -> Iterator[str]:
    """Give the names a file may have, safetensors first."""
    filename = filename or HF_WEIGHTS_NAME
    if filename == HF_WEIGHTS_NAME:
        yield HF_SAFE_WEIGHTS_NAME
    stem, dot, suffix = filename.rpartition(".")
    if dot + suffix in _UNSAFE_SUFFIXES:
        yield f"{stem}.safetensors"
    yield filename


def download_pretrained_from_hf(
    model_id: str, filename: str | None = None, revision: str | None = None, cache_dir: str | None = None
) -> str:
    """Return the local path of a file of a hub repository (``org/repo``), fetching it when it is not in the cache.

    Without ``filename`` the repository's OpenCLIP weights; a ``.safetensors`` file is taken before its ``.bin`` twin.

    Raises:
        CheckpointError: the hub cannot be reached, or there is no such repository or file.
        MissingDependency: huggingface_hub is not installed.
    """
    has_hf_hub(necessary=True)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    names = list(_names_to_try(filename))
    where = f"{printable(model_id, 200)} on the Hugging Face hub"
    offline: Exception | None = None
    for name in names:
        try:
            return str(
                hf_hub_download(
                    repo_id=model_id,
                    filename=name,
                    revision=revision,
                    cache_dir=cache_dir,
                    # The client asks for half a minute before it gives up: once is enough.
                    local_files_only=offline is not None,
                )
            )
        except LocalEntryNotFoundError as error:
            # Not in the cache and not reachable; the next name may be in the cache.
            offline = offline or error
        except EntryNotFoundError:
            continue
        except Exception as error:
            # The client raises its own kinds, the network library's and ValueError for a misspelt repository.
            raise CheckpointError(f"{where}: cannot be fetched: {first_line(error)}.") from error
    if offline is not None:
        raise CheckpointError(
            f"{where}: {' or '.join(names)} is not in the local cache and the hub cannot be reached. "
            "Check the network (HF_ENDPOINT, HF_HUB_OFFLINE), or copy the files here and use local-dir:PATH."
        ) from offline
    raise CheckpointError(f"{where}: has no file called {' or '.join(names)}.")
