"""The files of the framework that the document names in its head, so that the browser asks for them at once.

The framework (gradio 6.31) finds out file by file what it needs: its script loads the page's, which loads that of the
components, which loads one script and one style sheet for each kind of them. Each of these steps waits for the one
before. What they will be, its own lists say: calls `import(./name)...__vite__mapDeps([numbers of files])` beside the
list of files itself. What is not found there is asked for by the framework as always.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.ui.shell.serving.script_changes import ASSETS

# The framework's own scripts that are loaded one after the other, by the beginnings of their names.
_CHAIN = (("index-", "Index-"), ("Index-", "Blocks-"))
# Where the list of components begins to say what one of a kind needs.
_COMPONENT = r"[{{,]{}:\{{.{{0,1200}}?component:\(\)=>\w+\(\(\)=>"
_LINK = '<link rel="stylesheet" crossorigin href="./assets/{}"{}>'
_AHEAD = '<link rel="modulepreload" crossorigin href="./assets/{}">'


@dataclass(frozen=True)
class LinkedFiles:
    """What the document links: one style sheet that stands for those of many components, and scripts.

    `sheets` are the names of the files that `text` stands for; `scripts` the names of scripts, the first needed first.
    """

    sheets: tuple[str, ...]
    text: bytes
    scripts: tuple[str, ...]
    # The name that the sheet is served under: another one for other contents.
    sheet: str

    def links(self) -> bytes:
        """Return what the document says of them.

        The framework's loader asks for no style sheet that has a link already, loaded or not: the one is loaded, and
        of each that it stands for the document says that it is there.
        """
        made = [_LINK.format(self.sheet, ""), *(_LINK.format(name, " disabled") for name in self.sheets)]
        return "".join([*made, *map(_AHEAD.format, self.scripts)]).encode()


@lru_cache(maxsize=4)
def linked_files(kinds: frozenset[str]) -> LinkedFiles | None:
    """Return what a page with components of these kinds needs; None where nothing is found of them."""
    core = next((path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob("core-*.js"))), "")
    needed = [name for kind in sorted(kinds) for name in _needed(core, _COMPONENT.format(re.escape(kind)), "[^`]+")]
    sheets = [name for name in dict.fromkeys(needed) if name.endswith(".css") and (ASSETS / name).is_file()]
    if not sheets:
        return None
    text = b"\n".join((ASSETS / name).read_bytes() for name in sheets)
    scripts = [name for name in dict.fromkeys([*_chain(), *needed]) if name.endswith(".js")]
    found = tuple(name for name in scripts if (ASSETS / name).is_file())
    return LinkedFiles(tuple(sheets), text, found, f"workbench-{hashlib.sha256(text).hexdigest()[:16]}.css")


def _chain() -> list[str]:
    """Return the scripts of the framework's own steps, without those of components."""
    found: list[str] = []
    for script, wanted in _CHAIN:
        for path in sorted(ASSETS.glob(f"{script}*.js")):
            found += _needed(path.read_text(encoding="utf-8"), "", f"{wanted}[^`]+")
    return found


def _needed(script: str, before: str, name: str) -> list[str]:
    """Return the files that the first import of a name needs behind a pattern, its own first; empty without one."""
    listed = re.search(r"m\.f=(\[[^\]]*\])", script)
    call = re.search(rf"{before}import\(`\./({name})`\).{{0,80}}?__vite__mapDeps\(\[([\d,]*)\]\)", script)
    if not listed or not call:
        return []
    files: list[str] = json.loads(listed[1])
    numbers = [int(one) for one in call[2].split(",") if one]
    return [call[1], *(Path(files[one]).name for one in numbers if one < len(files))]
