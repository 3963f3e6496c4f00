"""Push a prepared folder to the hub, file by file, so that a push that was broken off sends no file twice.

The command line pushes in its own process, with a token that may have been typed. The page hands in a job, whose child
finds the token where this machine keeps it; it is written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from app.errors import NetworkError, UsageError, keyed, one_line
from app.hub import token as tokens
from app.hub import transfer
from app.hub.ids import is_repository
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.child import JobChild, Outcome
from app.jobs.directory import JobDirectory
from app.redaction import REDACTED, redact
from app.workspace import Workspace


@dataclass(frozen=True)
class PushRequest:
    """A folder, the repository that it goes to, and whether a new repository is private."""

    folder: str
    repo: str
    private: bool = True


def checked(repo: str) -> str:
    """Return a repository's name. Raises UsageError when it is none."""
    if not is_repository(repo):
        raise UsageError(f"{repo!r:.120} is no hub repository", "", "write OWNER/NAME")
    return repo


def start(workspace: Workspace, request: PushRequest) -> JobDirectory:
    """Hand in a push; one that is under way already is returned as it is.

    Raises UsageError for what is no repository, where there is no token, and where there is no folder.
    """
    checked(request.repo)
    if not tokens.token():
        raise UsageError(
            keyed("there_is_no_hub_token", "There is no hub token"),
            tokens.why_none(),
            keyed("log_in_with_hf_auth_login", "log in with `hf auth login`"),
        )
    if not Path(request.folder).is_dir():
        raise UsageError(
            keyed("there_is_no_folder_for_the_hub", "There is no folder for the hub yet"),
            keyed("it_may_have_been_removed", "it may have been removed"),
            keyed("create_it_first", "create it first"),
        )
    for job in jobs.all_jobs(workspace, "push"):
        if job.config == asdict(request) and not job.status().final:
            return job
    return requests.submit(workspace, "push", asdict(request), name=f"push: {request.repo}")


def newest(workspace: Workspace, folder: Path) -> JobDirectory | None:
    """Return the newest push of a folder."""
    every = jobs.all_jobs(workspace, "push")[::-1]
    return next((job for job in every if job.config.get("folder") == str(folder)), None)


def work(child: JobChild) -> tuple[Outcome, Mapping[str, object]]:
    """Push as a job; a stop is heard within a file, and what was sent of it is sent again."""
    request, url = child.request(PushRequest), ""

    def run() -> None:
        nonlocal url
        token = tokens.token()
        if not token:
            raise NetworkError("There is no hub token", tokens.why_none(), "log in with `hf auth login`")
        url = push(Path(request.folder), request.repo, token, private=request.private, progress=told)

    def told(done: int, total: int) -> None:
        child.progress(done >> 10, total >> 10, phase="pushing")

    child.progress(0, 0, phase="pushing")
    if not transfer.ended(run, child):
        return "stopped", {}
    return "finished", {"url": url}


def push(
    folder: Path,
    repo: str,
    token: str,
    *,
    private: bool,
    progress: Callable[[int, int], None] = lambda done_bytes, all_bytes: None,
) -> str:
    """Push a folder and return its address: large files one by one, then one commit that names all.

    A file that the hub has already is not sent again. Raises NetworkError; the folder stays as it is.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in paths]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        added = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        for number, operation in enumerate(added):
            progress(sum(sizes[:number]), sum(sizes))
            api.preupload_lfs_files(repo, [operation])
        api.create_commit(repo, added, commit_message="Add the model and its card")
    except Exception as error:  # broad on purpose: where no answer comes, the classes are the transport library's
        raise NetworkError(
            f"Nothing was pushed to {repo}",
            redact(one_line(error, 2000).replace(token, REDACTED))[:300],
            f"the prepared folder stays in {folder}; try again with `hf upload {repo} {folder}`",
        ) from None
    return f"https://huggingface.co/{repo}"
