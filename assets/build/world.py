"""Hold the starter model's closed world: every category and every fact."""

from __future__ import annotations

from functools import cache

from assets.build import phrasings
from assets.build.fact import Category, Fact


@cache
def categories() -> tuple[Category, ...]:
    """Return every category of the world."""
    return tuple(phrasings.all_categories())


@cache
def facts() -> tuple[Fact, ...]:
    """Return every fact of the world."""
    return tuple(fact for category in categories() for fact in category.facts)
