"""VRAM: weights, adapter, optimiser, activations, logits, cache; sum, inverse solve, remedies, trace check."""

from app.planner.alternatives.compare import CurvePoint, compare_methods, curve
from app.planner.alternatives.solve import largest, plan
from app.planner.alternatives.suggest import Suggestion, suggestions
from app.planner.estimate import PART_KEYS, Part, Plan, estimate
from app.planner.request import PlanRequest

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
