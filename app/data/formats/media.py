"""Tell rows that need a picture, a sound or a film: without it their text would be trained blind."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from app.data.formats import columns
from app.data.formats.conversation import Conversation
from app.data.reading.rows import BadRow, Fields

_WORDS = (
    r"images?|imgs?|pictures?|pics?|photos?|pixel_values|videos?|audios?|waveforms?|spectrograms?|图片|图像|照片|视频|音频"
    r"|画像|写真|動画|音声|이미지|사진|изображени[ея]|картинк[аи]|bild|bilder|foto|fotos|imagen|imágenes|immagine|imagem"
)
# Names of the kinds of file that such columns hold, as the shards of WebDataset have them.
_FORMATS = r"jpe?g|png|webp|bmp|gif|tiff?|wav|mp3|flac|ogg|opus|mp4|webm|mkv|pil|svg"
_KINDS = (
    r"paths?|files?|filenames?|names?|urls?|uris?|links?|bytes|base64|b64|data|tensor|array|features|content|\d{1,3}"
)
# `image`, `img_path`, `question_image`, `photo2`; a number of its own names a picture that lies elsewhere (VQA).
_NAMED = re.compile(
    rf"(?:(?:input|question|context|encoded|raw|source|query|user|main|rgb|coco)[_ -]?)?(?:{_WORDS})"
    rf"(?:[_ -]?(?:{_KINDS}))?(?:[_ -]?(?:{_KINDS}))?"
    r"|(?:coco[_ -]?)?(?:images?|img|picture|photo)[_ -]?(?:id|ids|idx|index)"
    rf"|(?:inline|file)_?data|(?:{_FORMATS})"
)
# Names of columns that hold a picture, sound or film only where their value is no text.
_LOOSELY_NAMED = re.compile(r"speech|sounds?|frames?|media|multimedia|screenshots?|clips?|visuals?|figures?|scans?")
# Pictures that decorate a page of text are not what it speaks of.
_DECORATION = re.compile(r"thumb|avatar|logo|icon|cover|banner|profile", re.IGNORECASE)
_FILE = re.compile(
    r"\S(?:[^\n]{0,500}\S)?\.(?:png|jpe?g|webp|bmp|gif|tiff?|heic|avif|svg|jp2|exr|ppm|dcm|glb"
    r"|mp4|webm|mov|avi|mkv|m4v|wmv|flv|3gp|wav|mp3|flac|ogg|m4a|opus|aac|wma|aiff?|midi?)"
    r"(?:\?\S*)?",
    re.IGNORECASE,
)
_DATA_URI = re.compile(r"data:(?:image|video|audio)/[\w.+-]+;base64,", re.IGNORECASE)
# How PNG, JPEG, GIF, WebP, WAV and MP3 begin: as bytes, as text that was read from them, and in base64.
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x00\x00\x00 ftyp")
_TEXT_MAGIC = tuple({magic.decode(code, "replace") for magic in _MAGIC for code in ("latin-1", "utf-8")} | {"<PIL."})
_BASE64_MAGIC = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUQz", "T2dnU", "ZkxhQ")
_LONG_BASE64 = 40
# Stands in a question where a picture or a sound belongs.
_MARK = re.compile(
    r"\A\s*<image>|<image>\s*\Z|^[ \t]*<(?:image|video|audio|speech)>[ \t]*$|<image>[ \t]*\n"
    r"|<(?:image|img|im|video|audio)[_ ]?(?:pad|patch|token|placeholder|soft_token|here|\d{1,3})>"
    r"|<\|(?:image|video|audio)(?:_start|_pad|_bos|_\d{1,3})?\|>|<\|vision_start\|>"
    r"|<start_of_image>|<img>[^<\s]+</img>|data:(?:image|video|audio)/[\w.+-]+;base64,"
    r"|\A\s*\[(?:image|img|picture|photo|video|audio)(?: ?#?\d{1,3})?\]|^[ \t]*\[(?:image|img|picture|audio)\][ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
# The same mark within a sentence; it may also be what the sentence speaks of.
_MARK_IN_SENTENCE = re.compile(r"(?<![`'\"])<(?:image|video|audio)>(?![`'\"])", re.IGNORECASE)
_ABOUT_MARKUP = re.compile(r"\b(?:html5?|xml|svg|css|tags?|elements?|markup|code)\b|</|标签", re.IGNORECASE)
_TEXT_COLUMNS = frozenset(
    name
    for _, asking, answering in columns.PAIRS
    for name in (*asking, *answering, *columns.TEXT, *columns.SYSTEM, *columns.REASONING, *columns.MESSAGES)
)


def refuse_media(fields: Fields) -> None:
    """Raise BadRow for a row that holds or names a picture, a sound or a film in a column, whatever that is called."""
    for column, is_named in _suspects(tuple(fields)):
        value = fields[column]
        if value is not None and (_is_there(value) if is_named(value) else _is_media(value)):
            what = f"The row's column {column!s:.60} holds a picture, sound or film, which its text speaks of"
            raise BadRow("media", what, "Only text can be trained; remove the row, or map the columns to train")


def refuse_marks(conversation: Conversation) -> None:
    """Raise BadRow for a conversation whose questions mark the place of a picture, a sound or a film."""
    for turn in conversation.turns:
        text = turn.content
        if turn.role == "user" and ("<" in text or "[" in text or "base64," in text) and _marks_media(text):
            raise BadRow("media", "The row speaks of an image, video or sound", "Only text can be trained; remove it")


def _marks_media(text: str) -> bool:
    if _MARK.search(text):
        return True
    return _MARK_IN_SENTENCE.search(text) is not None and not _ABOUT_MARKUP.search(text)


@lru_cache(maxsize=4096)
def _suspects(keys: tuple[Any, ...]) -> tuple[tuple[Any, Callable[[object], bool]], ...]:
    """Return the columns whose values have to be looked at, and for which values their name alone tells of media."""
    named = [(key, str(key).strip().lower()) for key in keys]
    return tuple(
        (key, _named_kind(bare)) for key, bare in named if bare not in _TEXT_COLUMNS and not _DECORATION.search(bare)
    )


def _named_kind(bare: str) -> Callable[[object], bool]:
    """Return for which values a column of this name holds media."""
    if _NAMED.fullmatch(bare):
        return lambda value: True
    if _LOOSELY_NAMED.fullmatch(bare):
        return lambda value: isinstance(value, (list, dict, bytes))
    return lambda value: False


def _is_there(value: object) -> bool:
    """Say whether a column of pictures has one in this row."""
    if isinstance(value, dict):
        return any(_is_there(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return any(_is_there(part) for part in value[:8])
    return value is not None and not isinstance(value, bool) and value != ""


def _is_media(value: object, levels: int = 3) -> bool:
    """Say whether a value is a picture, sound or film by what it holds."""
    if isinstance(value, str):
        head = value[:32].lstrip()
        encoded = len(value) > _LONG_BASE64 and head.startswith(_BASE64_MAGIC) and " " not in value[:200]
        raw = head.startswith(_TEXT_MAGIC)
        return bool(encoded or raw or _DATA_URI.match(head) or (len(value) < 600 and _FILE.fullmatch(value)))
    if isinstance(value, bytes):
        return value.startswith(_MAGIC)
    if not levels:
        return False
    if isinstance(value, dict):
        if ("bytes" in value and "path" in value and value["bytes"]) or "sampling_rate" in value:
            return True
        return any(_is_media(part, levels - 1) for part in list(value.values())[:8])
    return isinstance(value, (list, tuple)) and any(_is_media(part, levels - 1) for part in value[:8])
