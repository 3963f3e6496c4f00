"""What must hold before a checkpoint is written: room on the disk, and numbers worth keeping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from app.errors import DiskError, DivergedError, keyed, one_line
from app.files import disk_free_bytes
from app.jobs.child import JobChild, is_disk_full

# Left free beside a checkpoint for the log, the curve and the status of the run.
MARGIN_BYTES = 32 << 20


def check_before_save(child: JobChild, model: torch.nn.Module) -> None:
    """Raise DivergedError for weights that are not finite, DiskError when a checkpoint would not fit.

    Either way the checkpoint before stays the newest one, and it is whole.
    """
    trained = [torch.isfinite(parameter).all() for parameter in model.parameters() if parameter.requires_grad]
    if not bool(torch.stack(trained).all()):
        child.event(
            "not finite", keyed("event_weights_not_finite", "trained weights are not finite; they are not saved")
        )
        raise DivergedError(
            "The trained weights are not finite", "no step can mend that", "resume goes on from the last checkpoint"
        )
    check_room(child, saved_bytes(model, states=2))


@contextmanager
def saving(child: JobChild, model: torch.nn.Module) -> Iterator[None]:
    """Check what must hold before a checkpoint is written in this context. Raises DiskError when the disk fills up."""
    check_before_save(child, model)
    with told_with_figures(child, saved_bytes(model, states=2)):
        yield


@contextmanager
def told_with_figures(child: JobChild, needed_bytes: int) -> Iterator[None]:
    """Turn what the libraries raise when a file cannot grow into a DiskError that names the bytes needed and free."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        free = _megabytes(disk_free_bytes(child.directory.path))
        raise DiskError(
            "The disk is full, or a file may not grow further",
            f"saving needs about {_megabytes(needed_bytes)}, {free} are free; {one_line(error, 200)}",
            "free some room, or lift the limit on file sizes, and resume the run; the checkpoint before is whole",
        ) from error


def saved_bytes(model: torch.nn.Module, states: int) -> int:
    """Return the size of what is saved: the trained weights, and `states` numbers of the optimiser for each (Adam: 2).

    An optimiser with smaller states needs less; the difference is a margin.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights: int = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return weights * (1 + states)


def check_room(child: JobChild, needed_bytes: int) -> None:
    """Raise DiskError when the disk of the job has too little room for `needed_bytes` and a margin."""
    free = disk_free_bytes(child.directory.path)
    if free < needed_bytes + MARGIN_BYTES:
        raise DiskError(
            "The disk is too full to save",
            f"{_megabytes(free)} are free, saving needs {_megabytes(needed_bytes + MARGIN_BYTES)}",
            "free some room and resume the run; the checkpoint before is whole",
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.{0 if size_bytes >= 1e7 else 1}f} MB"
