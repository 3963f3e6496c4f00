"""Trace a model of any architecture and write its costs: `python -m ... REQUEST.json WORKSPACE`. In a child only.

REQUEST.json holds one request or several; the first is what somebody waits for, and its state says how far it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.errors import PlanError, WorkbenchError, foreign_code
from app.planner.request import PlanRequest
from app.planner.tracing import store
from app.planner.tracing.request import requests_from_json
from app.planner.tracing.store import State

_IMPORTED, _BUILT = 0.3, 0.4


def simulate(request: PlanRequest, root: Path, report: Callable[[float], None], started: float) -> None:
    """Trace what is missing of a request and keep it. Raises PlanError for a model that cannot be trained."""
    from app.planner.tracing import measure

    report(_IMPORTED)
    if not request.is_training:
        attend_to_inference(request, root, report)
        return
    for mode in store.modes_of(request):
        alone = request.changed(checkpointing="full" if mode else "none")
        if store.traces_of(root, request.model).traced(alone):
            continue
        decoder = measure.decoder_of(alone)
        counts = measure.counts(decoder, measure.DTYPES[alone.dtype])
        store.keep_counts(root, request.model, counts)
        report(_BUILT)
        graph = measure.graph_trace(alone, decoder, counts.windows, lambda share: report(_BUILT + 0.6 * share))
        store.keep_graph(root, alone, mode, replace(graph, seconds=time.monotonic() - started))


def attend_to_inference(request: PlanRequest, root: Path, report: Callable[[float], None]) -> None:
    """Trace what a model holds while it answers, and keep it. Raises PlanError where that cannot be known."""
    from app.planner.tracing import inference, measure

    decoder = measure.decoder_of(request)
    store.keep_counts(root, request.model, measure.counts(decoder, measure.DTYPES[request.dtype]))
    report(_BUILT)
    store.keep_inference(root, request, inference.inference_trace(request, decoder))


def _refusal(request: PlanRequest, error: Exception) -> PlanError:
    """Return the error of a model whose code fails in a simulated step."""
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:220]
    what = f"The model {request.model.name} cannot be planned"
    return PlanError(what, f"a step of its training cannot be simulated ({why})", "Choose another model")


def attend(request: PlanRequest, root: Path, started: float) -> None:
    """Trace one request and keep its state while it is traced."""
    path = store.state_file(root, request)

    def report(share: float) -> None:
        store.write_state(path, State("begun", share, time.monotonic() - started))

    report(0.0)
    try:
        with foreign_code(partial(_refusal, request)):
            simulate(request, root, report, started)
        state = State("done", 1.0, time.monotonic() - started)
    except WorkbenchError as error:
        refused = (error.what, error.why, error.remedy)
        state = State("refused", 1.0, time.monotonic() - started, refused=refused)
    store.write_state(path, state)


def main(arguments: list[str]) -> int:
    """Read the requests and trace one after the other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    source, root = Path(arguments[0]), Path(arguments[1])
    requests = requests_from_json(source.read_text(encoding="utf-8"))
    source.unlink(missing_ok=True)
    for request in requests:
        attend(request, root, started)
        started = time.monotonic()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
