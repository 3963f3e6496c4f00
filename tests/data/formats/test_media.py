from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow

ASKED = {"question": "What is shown?", "answer": "a cat"}


@pytest.mark.parametrize(
    "column",
    [
        *(
            {"jpg": "eHl6"},
            {"wav": "eHl6"},
            {"pil": "x"},
            {"mp3": "x"},
        ),
        *({"speech": [0.1, 0.2]}, {"media": [{"file": "a"}]}, {"frames": ["1", "2"]}),
        *({"chart": "c.svg"}, {"scan": "s.jp2"}, {"clip": "c.m4v"}, {"note": "n.midi"}, {"x": "<PIL.Image.Image>"}),
        {"sound": {"array": [0.0], "sampling_rate": 16000}},
    ],
)
def test_media_is_found_whatever_its_column_is_called(column: dict[str, Any]) -> None:
    with pytest.raises(BadRow) as refused:
        conversation_of({**ASKED, **column})
    assert refused.value.kind == "media"


@pytest.mark.parametrize(
    "column",
    [
        *({"speech": "Friends, Romans, countrymen"}, {"clip": "a short one"}),
        *({"media": "newspaper"}, {"frames": 24}, {"image_caption": "A cat on a mat"}, {"pdf": "manual.pdf"}),
    ],
)
def test_columns_of_words_and_counts_are_no_media(column: dict[str, Any]) -> None:
    assert conversation_of({**ASKED, **column}).turns[-1].content == "a cat"


@pytest.mark.parametrize(
    "part",
    [
        *({"image": "a.png"}, {"video": "a.mp4"}, {"inlineData": {"mimeType": "image/png", "data": "x"}}),
        *({"fileData": {"fileUri": "gs://x"}}, {"audio_url": "http://x/a"}),
    ],
)
def test_a_part_without_a_type_is_media_too(part: dict[str, Any]) -> None:
    answer = {"role": "assistant", "content": "a"}
    for listed in ("content", "parts"):
        with pytest.raises(BadRow) as refused:
            conversation_of({"messages": [{"role": "user", listed: [part, {"text": "What?"}]}, answer]})
        assert refused.value.kind == "media"


@pytest.mark.parametrize(
    "question",
    [
        *("What is in <image>?", "Compare <image> with <image>.", "USER: <image>\nWhat?", "<IMAGE>\nWhat?"),
        *("[image] What?", "[IMG]What?", "Look:\n[picture]\nWhat?", "<|AUDIO|>What?", "<im_patch><im_patch> What?"),
        *("<image_here> What?", "<|image_start|> What?", "In <image 1>, what?"),
    ],
)
def test_marks_of_media_are_found_within_a_question(question: str) -> None:
    with pytest.raises(BadRow) as refused:
        conversation_of({"question": question, "answer": "a"})
    assert refused.value.kind == "media"


@pytest.mark.parametrize(
    "question",
    [
        *("How do I close the <image> tag in XML?", "What does `<image>` mean?", "<audio>a</audio> is what?"),
        *("A list [image, text] of words", "The array [img] = f(x)", "<fim_prefix>def f():<fim_suffix>"),
    ],
)
def test_questions_about_marks_are_text(question: str) -> None:
    assert conversation_of({"question": question, "answer": "a"}).turns[0].content == question
