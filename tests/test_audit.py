"""The list of what is installed and its licences, and what is made of pip-audit's answer."""

from __future__ import annotations

import email.message
import json

import pytest

import audit
import launch


def test_the_list_has_every_pinned_package_what_they_need_and_a_licence() -> None:
    packages = {one.name: one for one in audit.installed(launch.pins(launch.RUNTIME))}
    assert {"torch", "gradio", "httpx", "huggingface-hub"} <= set(packages)
    assert "anyio" in packages and "pytest" not in packages  # httpx needs it; nothing here needs the other
    assert "Apache" in packages["transformers"].licence and packages["gradio"].version == "6.31.0"
    assert all(one.licence for one in packages.values())


def test_a_licence_is_read_from_wherever_it_stands() -> None:
    facts = email.message.Message()
    assert audit.licence_of(facts) == "not stated"
    facts["License"] = "Free text\nof many lines"
    assert audit.licence_of(facts) == "Free text"
    facts["Classifier"] = "License :: OSI Approved :: MIT License"
    assert audit.licence_of(facts) == "MIT License"
    facts["License-Expression"] = "BSD-3-Clause"
    assert audit.licence_of(facts) == "BSD-3-Clause"


def test_the_answer_is_told_line_by_line_and_what_is_none_is_no_clean_bill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    answer = {"dependencies": [{"name": "a", "version": "1.0", "vulns": [fault]}, {"name": "b", "version": "1"}]}
    assert audit.faults_in(json.dumps(answer)) == ["a 1.0: PYSEC-1, mended in ['2.0']"]
    skipped = json.dumps({"dependencies": [{"name": "a", "skip_reason": "Dependency not found"}]})
    for wrong in ("", "[]", "{}", "503 Service Unavailable", '{"dependencies": []}', skipped):
        with pytest.raises(ValueError):
            audit.faults_in(wrong)
    monkeypatch.setattr(audit, "known_faults", lambda packages: None)
    assert audit.main([]) == 1
    assert "not measured" in capsys.readouterr().err
    assert audit.main(["--offline"]) == 0
