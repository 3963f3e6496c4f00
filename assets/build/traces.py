"""Simulate the models of the shipped presets and keep their traces: python -m assets.build.traces

Run it anew after the versions of torch, transformers, peft, bitsandbytes or trl have changed; it takes some minutes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from app.config import presets
from app.errors import PlanError
from app.planner.alternatives.compare import by_method
from app.planner.machine import request_on
from app.planner.tracing import client, store


def main() -> int:
    """Write assets/traces anew."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for preset in presets.all_presets(None):
            request = request_on("cuda", preset.config)
            if not request.model.simulated:
                continue
            # Packed and separate rows have other masks; which of them a run has is known after a test only.
            for one in (request, request.changed(packed=not request.packed), *by_method(request).values()):
                print(f"{preset.name}: {one.model.name}, {one.method}", flush=True)
                try:
                    client.traced(one, root)
                except PlanError as error:
                    print(f"  {error}", file=sys.stderr)
        shutil.rmtree(store.SHIPPED, ignore_errors=True)
        for model in sorted((root / "traces").iterdir()):
            target = store.SHIPPED / model.name
            target.mkdir(parents=True)
            for trace in model.glob("*.json"):
                shutil.copy(trace, target / trace.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
