"""Push a prepared folder to the hub. Runs where the token is: in the process of the person who gave it.

A job's child inherits the environment of a supervisor that may be older than the token, and anything handed to it in a
file would be on disk; so the job prepares the folder, and the push is the caller's last step.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import NetworkError, UsageError, one_line
from app.hub.ids import is_repository
from app.redaction import REDACTED, redact


def checked(repo: str) -> str:
    """Return a repository's name. Raises UsageError when it is none."""
    if not is_repository(repo):
        raise UsageError(f"{repo!r:.120} is no hub repository", "", "write OWNER/NAME")
    return repo


def push(folder: Path, repo: str, token: str, *, private: bool) -> str:
    """Push a folder in one commit and return its address. Raises NetworkError; the folder stays as it is."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Add the model and its card")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise NetworkError(
            f"Nothing was pushed to {repo}",
            redact(one_line(error, 2000).replace(token, REDACTED))[:300],
            f"the prepared folder stays in {folder}; try again with `hf upload {repo} {folder}`",
        ) from None
    return f"https://huggingface.co/{repo}"
