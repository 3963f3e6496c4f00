from pathlib import Path

import pytest

from app.redaction import hub_token, redact

CANARY = "canary-without-any-known-shape-0123"


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "hf_token", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"])
def test_secrets_of_the_environment_are_taken_out_whatever_their_shape(name: str) -> None:
    assert redact(f"x {CANARY}{CANARY} y", {name: CANARY}) == "x [redacted][redacted] y"


@pytest.mark.parametrize(
    "text",
    [
        "hf_CanaryThatMustNeverBeWritten0123456789",
        "Authorization: bearer abcdefgh12345678",
        "http://user:hunter2hunter2@proxy.example:3128",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    said = redact(f"a {text} b", {})
    assert "[redacted]" in said and said.startswith("a ") and said.endswith(" b")
    assert not any(word in said for word in ("Canary", "abcdefgh", "hunter2", "BEGIN"))


def test_what_is_no_secret_stays() -> None:
    text = "step 3 of 12 at https://huggingface.co/Qwen/Qwen3-8B, rank 16, mailto:a@b, a bearer of news"
    assert redact(text, {"HF_TOKEN": "", "TOKENIZERS_PARALLELISM": "false"}) == text


def test_the_token_comes_from_the_environment_or_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub_token() == ""
    (tmp_path / "token").write_text(f"{CANARY}\n")
    assert hub_token() == CANARY
    assert CANARY not in redact(f"it was {CANARY}", {})
    monkeypatch.setenv("HF_TOKEN", "of-the-environment")
    assert hub_token() == "of-the-environment"
