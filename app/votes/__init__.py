"""Blind votes over answers: kept append-only, turned into scores. Free of heavy imports."""
