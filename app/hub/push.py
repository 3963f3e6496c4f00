"""Push a prepared folder to the hub, file by file, so that a push that was broken off sends no file twice.

The command line pushes in its own process, with a token that may have been typed. The page hands in a job, whose child
finds the token where this machine keeps it; it is written nowhere.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import NetworkError, UsageError, WorkbenchError, keyed, one_line
from app.hub import address, transfer
from app.hub import token as tokens
from app.hub.address import Address
from app.hub.ids import is_repository
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.child import JobChild, Outcome
from app.jobs.directory import JobDirectory
from app.redaction import REDACTED, redact
from app.workspace import Workspace

if TYPE_CHECKING:
    from httpx2 import Client

# What the hub answers to a token that it does not know, to one that may not do this, and to too many questions.
_UNKNOWN, _FORBIDDEN, _TOO_OFTEN = 401, 403, 429
# A hub that takes a file or a commit answers sooner.
SILENT_S = 60.0


@dataclass(frozen=True)
class PushRequest:
    """A folder, the repository that it goes to, and whether a new repository is private."""

    folder: str
    repo: str
    private: bool = True


def checked(repo: str) -> str:
    """Return a repository's name. Raises UsageError when it is none."""
    if not repo:
        none = keyed("no_repository_is_named", "No repository is named")
        raise UsageError(none, "", keyed("write_owner_name_too", "write OWNER/NAME"))
    if not is_repository(repo):
        raise UsageError(f"{repo!r:.120} is no hub repository", "", "write OWNER/NAME")
    return repo


def start(workspace: Workspace, request: PushRequest) -> JobDirectory:
    """Hand in a push; one that is under way already is returned as it is.

    Raises UsageError for what is no repository, where there is no token, and where there is no folder.
    """
    checked(request.repo)
    refuse_mirror(address.of(workspace))
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

    A file that the hub has already is not sent again. A repository that is there and public takes no private push.
    Raises NetworkError; the folder stays as it is.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    where = _set_library_up()
    api = HfApi(token=token)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in paths]
    remedy = f"the prepared folder stays in {folder}; try again with `hf upload {shlex.join([repo, str(folder)])}`"
    with _told(repo, token, remedy):
        api.create_repo(repo, private=private, exist_ok=True)
        if private and api.repo_info(repo).private is False:  # it was there before
            raise _public(repo)
        added = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        for number, operation in enumerate(added):
            progress(sum(sizes[:number]), sum(sizes))
            api.preupload_lfs_files(repo, [operation])
        api.create_commit(repo, added, commit_message="Add the model and its card")
    return f"{where.url}/{repo}"


def refuse_token(repo: str, token: str) -> None:
    """Ask the hub whose token this is, before work begins that ends in a push. Raises NetworkError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    _set_library_up()
    with _told(repo, token, "leave --repo out to prepare the folder alone"):
        try:
            HfApi(token=token).whoami()
        except HfHubHTTPError as error:  # this question alone is limited so; the push itself may go through
            if _status(error) != _TOO_OFTEN:
                raise


def refuse_mirror(where: Address) -> None:
    """Refuse a push to a mirror that the token is not sent to. Raises UsageError."""
    if not where.sends_token:
        raise UsageError(
            keyed("nothing_is_pushed_to_a_mirror", "Nothing is pushed to the mirror {host}", host=where.host),
            keyed("the_token_is_not_sent_to", "the hub token is not sent to {host}", host=where.host),
            "take the mirror away, or keep it on the Plan tab as one that the token is sent to",
            on_page=keyed(
                "allow_it_the_token",
                "empty it in the download settings on the Plan tab, or tick there that it gets the token",
            ),
        )


def _set_library_up() -> Address:
    """Let the hub's own library give up on a silent hub, for which it waits for ever, and draw no bars beside ours.

    Return where it pushes. Raises UsageError for a mirror that the token is not sent to.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils._http import default_client_factory

    def patient() -> Client:
        client: Client = default_client_factory()
        client.timeout = SILENT_S
        return client

    where = address.settle()
    refuse_mirror(where)
    set_client_factory(patient)
    disable_progress_bars()
    return where


@contextmanager
def _told(repo: str, token: str, remedy: str) -> Iterator[None]:
    """Raise NetworkError for whatever goes wrong between here and the hub; a token in its words goes no further."""
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:  # broad on purpose: where no answer comes, the classes are the transport library's
        raise _failed(error, repo, token, remedy) from None


def _public(repo: str) -> NetworkError:
    return NetworkError(
        keyed("is_public_at_the_hub", "{repo} is there already, and everybody can read it", repo=repo),
        keyed("the_push_was_to_be_private", "the push was to be private, so nothing was sent"),
        "name another repository, make this one private at the hub, or add --public",
        on_page=keyed(
            "name_another_repository_or_untick_private",
            'name another repository, make this one private at the hub, or untick "Private"',
        ),
    )


def _failed(error: Exception, repo: str, token: str, remedy: str) -> NetworkError:
    """Return what went wrong at the hub in one line: a refused token by its name, all else in the hub's words."""
    from httpx2 import TimeoutException

    status, host = _status(error), address.current().host
    if status == _UNKNOWN:
        return NetworkError(
            keyed("the_hub_does_not_know_the_token", "The hub does not know the token"),
            keyed("nothing_went_to", "nothing was pushed to {repo}", repo=repo),
            keyed("make_a_token_that_may_write", "make one that may write at {host}/settings/tokens", host=host),
        )
    if status == _FORBIDDEN:
        return NetworkError(
            keyed("the_token_may_not_write_to", "The token may not write to {repo}", repo=repo),
            keyed("the_hub_answered_403", "the hub answered with 403"),
            keyed("make_a_token_that_may_write", "make one that may write at {host}/settings/tokens", host=host),
        )
    why = redact(one_line(error, 2000).replace(token, REDACTED))[:300]
    if isinstance(error, TimeoutException):
        why = f"the hub said nothing for {SILENT_S:g} s"
    return NetworkError(f"Nothing was pushed to {repo}", why, remedy)


def _status(error: Exception) -> int:
    """Return the status of a hub's answer, 0 where there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))
