"""Decide which code page a text that is not UTF-8 is written in, from what its language looks like, or not at all.

A detector that always answers turns "heiße" into Chinese. Here a page is taken only when everything beyond ASCII falls
into the letters of one language, words of that language stand in the text, and no other reading is as good. Otherwise
nothing is decided: the rows with such bytes are refused, and the reader asks for UTF-8.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

_MARKS = set("“”„‘’«»–—…·•°§©®™€£½¼¾ºª¿¡×±²³µ\xa0")
# Letters that stand at the same place in the pages of Western and Central Europe.
_SHARED = set("áéíóúýâäçëîöüôßÁÉÍÓÚÝÂÄÇËÎÖÜÔ")
_WESTERN = ("cp1252", "iso8859_15", "mac_roman", "cp850", "cp437")
_CENTRAL = ("cp1250", "iso8859_2", "mac_latin2", "cp852")
_BALTIC = ("cp1257", "iso8859_13", "iso8859_4")
# What spreadsheets and editors of today write. Another page of these alphabets is taken only where none of them fits.
_WINDOWS = ("cp1252", "cp1250", "cp1254", "cp1257")
# Letters in words that speak for a page that hardly anyone writes today.
_LEAST_RARE_LETTERS = 6
# Marks that decide for a Windows page where no letter does: in other pages their bytes are letters or lines.
_PLAIN_MARKS = set("“”’–—…•°™€£½¼¾±×²³")
# One foreign character in so many is a slip of the text, and costs its own row only.
_SLIPS = 50
_LEAST_LETTERS = 12
# A letter beside a digit is a sign of another page: "20œ" was "20½".
_BESIDE_DIGIT = re.compile(r"\d[^\W\d_\x00-\x7f²³¹¼½¾]|[^\W\d_\x00-\x7f²³¹¼½¾]\d")
_WESTERN_LETTERS = set("ãõñçåæøœëïèêùìòÿÃÕÑÇÅÆØŒËÏÈÊÙÌÒ")
# A mark between two letters, other than an apostrophe, is a letter of another page.
_FALSE_MARK = re.compile(
    r"(?<=[^\W\d_])[^\w\s\x00-\x7f’·](?=[^\W\d_])|(?:^|\s)”(?:\W|$)|(?:^|\s)[’®™](?:\s|$)|’\d|(?<![m\d])[²³¹]|[½¼¾][^\W\d_]|[^\W\d_][½¼¾]",
    re.MULTILINE,
)
# In the languages of Western Europe a cedilla stands before a vowel or at the end of a word.
_FALSE_CEDILLA = re.compile(r"ç(?=[b-df-hj-np-tv-xz])", re.IGNORECASE)
# Signs of measure stand with a figure: "20 °C", "n° 5", "± 2", "½ cup"; elsewhere they are another page's signs.
_FALSE_MEASURE = re.compile(r"[½¼¾]\d|(?<!\d)(?<!\d )(?<![nN])°(?![CF]\b)|±(?! ?\d)")
# A capital of one letter in the middle of a sentence, and in Central Europe an apostrophe behind a word.
_FALSE_CAPITAL = re.compile(r"(?<=[^\W\d_] )[^\W\d_a-zA-Z](?=\s)")
_FALSE_APOSTROPHE = re.compile(r"(?<=[^\W\d_])’(?=\s)")
_LOOSE_MARK = re.compile(
    r"(?:^|\s)–(?=[^\W\d_])|€[^\W\d_]|(?<=[^\W\d_])€|(?<=[^\W\d_] )€(?= [^\W\d_])|\d[Α-Ω]", re.MULTILINE
)
_SCRIPT_MARKS = set("“”„’«»–—…·°§©®€\xa0")
_WORD = re.compile(r"[^\W\d_²³¹¼½¾]+")


@dataclass(frozen=True)
class _Reading:
    """How good a reading of a text is, its page, what it may hold beyond ASCII, and whether it may be taken at all.

    One that may not be taken still stands against another.
    """

    score: float
    page: str
    allowed: frozenset[str]
    is_sure: bool


_Readings = dict[str, _Reading]
_Scorer = Callable[[str, str], "_Reading | None"]


@dataclass(frozen=True)
class _Language:
    """Letters beyond ASCII, those that are words, frequent words, and the pages that the language is written in."""

    letters: frozenset[str]
    lone: frozenset[str]
    words: frozenset[str]
    pages: tuple[str, ...]


def _language(letters: str, words: str, pages: tuple[str, ...], lone: str = "") -> _Language:
    known = frozenset(word for word in words.split() if len(word) > 1)
    return _Language(frozenset(letters + letters.upper()), frozenset(lone + lone.upper()), known, pages)


_LATIN = (
    _language(
        "äöüß", "der die das und ist ich nicht wie ein eine du was für mit zu den sind über am von auf", _WESTERN
    ),
    _language(
        "àâçèéêëîïôùûüœÿ", "le la les des est et un une que dans pour je vous de du qui comment au", _WESTERN, "àô"
    ),
    _language("áéíñóúü¿¡", "el la los las de que es en un una por para con cómo qué está como se y", _WESTERN),
    _language("ãõáâàçéêíóôú", "o os as de que é um uma em para com não como do da se por", _WESTERN, "éàó"),
    _language("àèéìíîòóù", "il la le di che è un una in per con non come sono del gli della", _WESTERN, "è"),
    _language("åäö", "och att det är en ett som för jag på inte med vad hur den ja on ei mitä se", _WESTERN, "åäö"),
    _language("æøåéòó", "og at det er en et som jeg på ikke med hvad hva hvordan den til af av", _WESTERN, "åøæ"),
    _language("ëéïóöüèáê", "de het een van is en niet wat hoe ik dat zijn voor met", _WESTERN),
    _language("éèêëïñçöüâôœ", "the and of is to in what a how it for that you are", _WESTERN),
    _language("ąćęłńóśźż", "nie jest się to co jak na do w z i czy że są po", _CENTRAL),
    _language("áčďéěíňóřšťúůýž", "je se na v a co jak to není pro že jsem do s", _CENTRAL),
    _language("áäčďéíĺľňóôŕšťúýž", "je sa na v a čo ako to nie pre že som do s", _CENTRAL),
    _language("áéíóöőúüű", "a az és hogy nem van mi egy is ez hogyan mit", _CENTRAL, "ő"),
    _language("ćčđšž", "je se na da što šta su koji nije ili kako od ne to za gdje gde tko ko ima sam", _CENTRAL),
    _language("čšž", "je se na da ni ali kako kaj kje kdo kdaj zakaj po za pri so ima sem ne to", _CENTRAL),
    _language(
        "ăâîşţ",
        "este şi de la un cu nu pe ce care sunt din mai în sau se cum are an cât unde când pentru prin peste fi am",
        ("cp1250", "iso8859_2"),
    ),
    _language("ąčęėįšųūž", "ir yra kas tai kaip ar su iš už prie ne nes kur apie bet jo kiek turi", _BALTIC),
    _language("āčēģīķļņšūž", "ir un kas tas kā ar no uz vai ne bet par pie kur ko es cik jo ka", _BALTIC),
    _language(
        "õäöüšž", "on ja ei see mis kui kas ka et ma sa ta oma kus kuidas mitu mida", ("cp1257", "cp1252", "iso8859_15")
    ),
    _language(
        "áéíóúýþæðö", "og að er ekki ég þú það sem til við um hvað hver hvar en er var ég ekki já eru", _WESTERN, "áíó"
    ),
    _language("âêîôûŵŷ", "mae yn yr ar ei yw beth ble pwy sut gyda dim oes neu ond wedi", ("iso8859_14",), "ŵŷ"),
    _language("ĉĝĥĵŝŭ", "la estas kaj en de ne kio al mi vi ĉu kiel por kiu ĝi ĉar", ("iso8859_3",)),
    _language("çğıöşüâîİ", "bir ve bu ne için da de mi nasıl nedir ile çok var", ("cp1254", "iso8859_9")),
)


@dataclass(frozen=True)
class _Script:
    """A script of its own: its letters, the ones that fill most of any text, their least share, and its pages."""

    letters: re.Pattern[str]
    frequent: frozenset[str]
    share: float
    pages: tuple[str, ...]
    cased: bool = False


_SCRIPTS = (
    _Script(
        re.compile("[а-яёА-ЯЁіїєґІЇЄҐ]"), frozenset("оеаинтсрвлі"),
        0.55,
        ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"), True
    ),
    _Script(
        re.compile("[α-ωά-ώΑ-ΩΆ-Ώϊϋΐΰ]"),
        frozenset("αοιετσνηυρςόίπκάέ"),
        0.7,
        ("cp1253", "iso8859_7"),
        True,
    ),
    _Script(
        re.compile("[가-힣]"),
        frozenset("이다는은을를에하고의가지어기사한도로리나라인서자해니세요시대과습합으있안녕수것무엇입까게만오정스부그"),
        0.4,
        ("cp949",),
    ),
    _Script(
        re.compile("[ぁ-んァ-ヶ一-龠々ー]"),
        frozenset("のにはをたがでてとしれさいるなかっくすうもんりらまこ"),
        0.3, ("cp932", "euc_jp")),
    _Script(
        re.compile("[一-鿿]"),
        frozenset("的一是不了在人有我他这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于着下自之年过過好什么麼吗嗎请請是谁"),
        0.12,
        ("gb18030", "big5"),
    ),
)  # fmt: skip
_FULL_MARKS = set("，。、？！：；「」『』（）《》【】〈〉〔〕・…—～　０１２３４５６７８９％＋－＝／“”‘’")


def find_code_page(sample: bytes, is_cut: bool) -> tuple[str, frozenset[str]] | None:
    """Return the page of a text, None where nothing is certain, and the characters that it may hold beyond ASCII.

    An empty set of characters allows all.
    """
    latin: _Readings = {}
    pages = {page for kind in (*_LATIN, *_SCRIPTS) for page in kind.pages}
    texts = {page: text for page in sorted(pages) if (text := _decoded(sample, page, is_cut)) is not None}
    for language in _LATIN:
        _add(latin, texts, language.pages, partial(_latin_score, language))
    scripts: _Readings = {}
    for script in _SCRIPTS:
        _add(scripts, texts, script.pages, partial(_script_score, script))
    return _certain(latin, scripts)


def _add(readings: _Readings, texts: dict[str, str], pages: tuple[str, ...], score: _Scorer) -> None:
    """Note for every text that the pages give how good it is; of pages that give the same the first counts."""
    for page in pages:
        if page in texts and (reading := score(texts[page], page)):
            before = readings.get(texts[page])
            if before is None or reading.score > before.score:
                readings[texts[page]] = replace(reading, page=before.page if before else page)


def _certain(latin: _Readings, scripts: _Readings) -> tuple[str, frozenset[str]] | None:
    """Return the one reading that no other comes near to."""
    if latin and scripts:
        return None
    readings = list((latin or scripts).values())
    windows = [reading for reading in readings if reading.page in _WINDOWS]
    ranked = sorted(readings, key=lambda reading: -reading.score)
    if not ranked or (len(ranked) > 1 and ranked[1].score * 1.6 >= ranked[0].score) or not ranked[0].is_sure:
        return None
    if latin and windows and ranked[0] not in windows:
        return None
    return ranked[0].page, ranked[0].allowed


def _decoded(sample: bytes, page: str, is_cut: bool) -> str | None:
    try:
        return sample.decode(page)
    except UnicodeDecodeError as error:
        if is_cut and error.start >= len(sample) - 4:
            return sample[: error.start].decode(page)
        return None


def _latin_score(language: _Language, text: str, page: str) -> _Reading | None:
    foreign = [char for char in text if char > "\x7f"]
    slips = len(foreign) // _SLIPS
    allowed = language.letters | _SHARED | _MARKS | (_WESTERN_LETTERS if language.pages is _WESTERN else set())
    letters = [char for char in foreign if char.isalpha()]
    if sum(char not in allowed for char in foreign) > slips:
        return None
    words = _WORD.findall(text)
    strange = [word for word in words if not word.isascii()]
    odd = sum(_is_odd(word) or (len(word) == 1 and word not in language.lone) for word in strange)
    false_marks = _count(_FALSE_MARK, text) + _count(_FALSE_MEASURE, text) + _count(_BESIDE_DIGIT, text)
    false_marks += sum(char.group().isupper() for char in _FALSE_CAPITAL.finditer(text))
    if language.pages is _WESTERN:
        false_marks += _count(_FALSE_CEDILLA, text)
    if language.pages is _CENTRAL and "‚" not in text:
        false_marks += _count(_FALSE_APOSTROPHE, text)
    if odd + false_marks + _open_quotes(text) > slips:
        return None
    hits = sum(word.lower() in language.words for word in words)
    own = sum(char in language.letters for char in letters)
    if not hits or own < len(letters) * 0.8 or len(letters) > 0.4 * sum(map(len, words)):
        return None
    decides = own > 0 or _PLAIN_MARKS.issuperset(foreign)
    is_sure = decides if page in _WINDOWS else own >= _LEAST_RARE_LETTERS
    return _Reading((1 + own) * hits, page, frozenset(allowed), is_sure)


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in pattern.finditer(text))


def _open_quotes(text: str) -> int:
    """Return how many quotes have no other half, and are rather letters or signs of another page."""
    low, left, right = (text.count(mark) for mark in "„“”")
    return abs(text.count("«") - text.count("»")) + (abs(left - right) if not low else max(0, low - left - right))


def _is_odd(word: str) -> bool:
    """Say whether a word has capitals behind small letters, or hardly a letter of the alphabet."""
    return _swaps_case(word) or (len(word) > 2 and not any(char.isascii() for char in word))


def _script_score(script: _Script, text: str, page: str) -> _Reading | None:
    foreign = [char for char in text if char > "\x7f"]
    letters = [char for char in foreign if script.letters.fullmatch(char)]
    others = set(foreign).difference(letters)
    known = _SCRIPT_MARKS | {"№"} if script.cased else _FULL_MARKS | {"·"}
    if len(letters) < max(_least(script), 0.7 * len(foreign)) or not (script.cased or others <= known):
        return None
    if script.cased and any(
        (not word.isascii() and any(char.isascii() for char in word)) or _swaps_case(word)
        for word in _WORD.findall(text)
    ):
        return None
    if any(char.isalpha() for char in others):
        return None
    if script.cased and _count(_LOOSE_MARK, text) + _open_quotes(text) > len(foreign) // _SLIPS:
        return None
    lower = [_bare(char) if script.cased and char in "ёї" else char.lower() for char in letters]
    share = sum(char in script.frequent for char in lower) / len(lower)
    if share < script.share:
        return None
    return _Reading(share / script.share, page, frozenset(), others <= known)


def _least(script: _Script) -> int:
    return _LEAST_LETTERS if script.cased else 6


def _swaps_case(word: str) -> bool:
    return any(a.islower() and b.isupper() for a, b in itertools.pairwise(word))


def _bare(char: str) -> str:
    return unicodedata.normalize("NFD", char)[0].lower()
