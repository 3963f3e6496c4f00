"""VRAM: weights, adapter, optimiser, activations, logits, cache; sum, inverse solve, remedies, trace check."""

from app.planner.compare import CurvePoint, compare_methods, curve
from app.planner.estimate import PART_KEYS, Part, Plan, estimate
from app.planner.request import PlanRequest
from app.planner.solve import largest, plan
from app.planner.suggest import Suggestion, suggestions

__all__ = [
    "PART_KEYS",
    "CurvePoint",
    "Part",
    "Plan",
    "PlanRequest",
    "Suggestion",
    "compare_methods",
    "curve",
    "estimate",
    "largest",
    "plan",
    "suggestions",
]
