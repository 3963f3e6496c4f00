import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_published_measurements_are_met() -> None:
    place = importlib.util.spec_from_file_location("planner_truth", ROOT / "benchmarks" / "planner_truth.py")
    assert place is not None and place.loader is not None
    truth = importlib.util.module_from_spec(place)
    place.loader.exec_module(truth)
    lines = truth.score(truth.read_rows())
    scored = truth.summary(lines)
    assert scored["configurations"] == 34
    assert scored["mean_absolute"] <= 0.0075
    assert max(-scored["lowest"], scored["highest"]) <= 0.046
    # The bound that we hold ourselves to: half the public formula's error.
    assert scored["mean_absolute"] <= truth.summary(lines, "public_error")["mean_absolute"] / 2
    assert truth.summary(lines, "reserved_error")["mean_absolute"] <= 0.06
