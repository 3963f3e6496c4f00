"""The framework is imported as the page needs it."""

from __future__ import annotations

import subprocess
import sys


def test_the_framework_is_imported_without_writing_into_its_own_package() -> None:
    """In a process of its own: here it is imported long since. Elsewhere a file can be told of as before."""
    script = """
import inspect, sys
from app.ui.shell.serving import environment
with environment.no_type_stubs():
    import gradio
    from gradio import component_meta
    try:
        inspect.getfile(gradio.Textbox)
    except OSError:
        print("untold")
print(inspect.getfile(gradio.Textbox).endswith("textbox.py"), gradio.Textbox(label="Name").label)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["untold", "True", "Name"], done.stderr
