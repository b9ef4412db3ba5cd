"""Pretrained weights: from the hub's cache, else downloaded, else an error that says how to bring them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from fqbench.errors import InputError, UnavailableError
from fqbench.optional import require

SECONDS = 5.0  # to hear from a hub at all; its own clients try for a minute and more
FILE = "model.safetensors"


def pretrained_file(library: str, entry: str, name: str) -> Path:
    """Return the local file of a classifier's ImageNet weights; download it if it is not cached.

    Parameters
    ----------
    library, entry : str
        "timm" or "torchvision", and its name there.
    name : str
        What the user calls it, for messages.

    Raises
    ------
    InputError
        The library has no such weights.
    UnavailableError
        They are not cached, and the hub cannot be reached within a few seconds.
    """
    return _timm_file(entry, name) if library == "timm" else _torchvision_file(entry, name)


def _timm_file(entry: str, name: str) -> Path:
    config = require("timm", extra="train").get_pretrained_cfg(entry)
    repository = config.hf_hub_id and f"{config.hf_hub_id}"
    if not repository:
        raise InputError(f"timm has no imagenet weights for {name}; use --weights none or a file.")
    hub = require("huggingface_hub", extra="train")
    cached = hub.try_to_load_from_cache(repository, FILE)
    if isinstance(cached, str):
        return Path(cached)
    url = hub.hf_hub_url(repository, FILE)
    _reach(url, f"the imagenet weights of {name} are", _bring_file(url))
    try:
        return Path(hub.hf_hub_download(repository, FILE))
    except Exception as error:  # whatever the client raises, the way out is the same
        raise _unavailable(f"the imagenet weights of {name} are", error, _bring_file(url)) from error


def _torchvision_file(entry: str, name: str) -> Path:
    torch_hub = require("torch.hub", extra="train")
    weights = require("torchvision.models", extra="train").get_model_weights(entry).DEFAULT
    path = Path(torch_hub.get_dir()) / "checkpoints" / str(weights.url).rpartition("/")[2]
    if path.is_file():
        return path
    _reach(weights.url, f"the imagenet weights of {name} are", _bring_file(weights.url))
    try:
        weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise _unavailable(f"the imagenet weights of {name} are", error, _bring_file(weights.url)) from error
    return path


def repository(name: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a Hugging Face repository's files, from the cache, else downloaded.

    Parameters
    ----------
    name : str
        ``owner/name``.
    patterns : sequence of str
        Which of its files are needed.

    Raises
    ------
    UnavailableError
        It is not cached, and the hub cannot be reached within a few seconds or has no such repository.
    """
    hub = require("huggingface_hub", extra="hf")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns), local_files_only=True))
    except Exception:  # noqa: S110 - not cached, which every version of the client says in its own way
        pass
    url = hub.hf_hub_url(name, "config.json")
    advice = f"download it elsewhere (hf download {name} --local-dir DIR), bring the folder and give --model hf:DIR"
    _reach(url, f"the model {name} is", advice)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:
        raise _unavailable(f"the model {name} is", error, advice) from error


def _bring_file(url: str) -> str:
    return f"download {url} elsewhere, bring the file and give it with --weights FILE"


def _reach(url: str, what: str, advice: str) -> None:
    """Check once, with a short timeout, whether the hub can be reached (through the environment's proxy)."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https, of the library's own table
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()  # it answers; what it has against the question, the library's own client will say
    except OSError as error:
        raise _unavailable(what, error, advice) from error


def _unavailable(what: str, error: Exception, advice: str) -> UnavailableError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return UnavailableError(f"{what} not cached and cannot be fetched here ({reason}); {advice}.")
