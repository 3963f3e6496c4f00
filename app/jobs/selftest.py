"""A job without a model: it counts steps and writes a falling loss. `doctor` runs it to prove that jobs work here.

The same child, told to crash, hang or run out of memory at a step, stands in for the trainer in tests of everything
around it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from app.jobs.child import JobChild, Outcome, Result


def work(child: JobChild) -> tuple[Outcome, Result]:
    """Count to `steps`, `step_s` seconds each.

    `fault` (crash, kill, hang, memory, disk, nan, linger) happens at `fault_step`; linger leaves a thread that keeps
    the process from ending.
    """
    steps, step_s = int(child.config.get("steps", 5)), float(child.config.get("step_s", 0.05))
    fault, fault_step = child.config.get("fault"), int(child.config.get("fault_step", -1))
    for step in range(1, steps + 1):
        if child.stop_requested():
            return "stopped", {"steps": step - 1}
        if step == fault_step:
            _fail(str(fault))
        time.sleep(step_s)
        loss = float("nan") if fault == "nan" and step == fault_step else 4.0 * 0.9**step
        child.metric({"step": step, "loss": loss, "learning_rate": 1e-4})
        child.progress(step, steps)
    child.directory.result.mkdir(exist_ok=True)
    return "finished", {"steps": steps}


def _fail(fault: str) -> None:
    if fault == "crash":
        raise RuntimeError("asked to crash")
    if fault == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if fault == "disk":
        raise OSError(28, "No space left on device")
    if fault == "kill":
        if sys.platform == "win32":
            os.kill(os.getpid(), signal.SIGTERM)  # ends a process there as SIGKILL does elsewhere
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        _sleep_for_ever()
    if fault == "linger":
        threading.Thread(target=_sleep_for_ever, name="lingering").start()


def _sleep_for_ever() -> None:
    while True:
        time.sleep(1)
