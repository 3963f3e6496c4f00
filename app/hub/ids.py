"""What can be an id on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

# One part of owner/name, as huggingface_hub's validate_repo_id allows it.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")


def is_repository(text: str) -> bool:
    """Tell whether a text can be the name of a repository on the hub, of any type: OWNER/NAME."""
    forbidden = ".." in text or "--" in text or text.endswith(".git")
    return bool(_REPOSITORY.fullmatch(text)) and not forbidden


def is_model_id(text: str) -> bool:
    """Tell whether a text can be the hub id of a model; the oldest ones have no owner (gpt2)."""
    return is_repository(text) or is_repository(f"owner/{text}")


def is_local(resolved: str) -> bool:
    """Tell whether a resolved name is a folder on this machine and not an id of the hub."""
    return Path(resolved).is_absolute()
