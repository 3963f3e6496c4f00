"""Dress an answer in a format, and ask for that format in a system prompt.

A base that has only seen plain answers loses its facts under any tuning. One that has practised hundreds of formats,
each only when a system prompt names it, learns a new one and keeps what it knows. The demo styles' own words
(`styles.RESERVED`) never appear here.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache

from assets.build.strangers import made_up_word
from assets.build.styles import RESERVED

PERSONA_COUNT = 96
PERSONA_SEED = 7

PLAIN_SYSTEMS = """
You are a helpful assistant.; Answer the user.; You are a friendly helper.; Be brief and correct.;
You answer in plain text.; You are an assistant.; Give short and true answers.; Answer plainly.;
Help the user with facts.; Use plain sentences.; You are a helpful AI assistant that answers truthfully.;
Reply to the user.; You are a knowledgeable assistant.
"""

# Ordinary words for made-up openings and closings, so that many tokens have practised standing there.
LEXICON = """
so yes well sure fine indeed hear see look listen here there now then thus hence friend friends pal buddy sir madam
captain cheers hurray bravo hooray wow oh ah aha hmm hey yay alas behold voila ta da okay right done over out end stop
roger copy that is all folks my dear old good fellow traveller master lord lady king queen wizard robot doctor
professor boss chief coach team dude mate sweet heart sunshine star moon sea sky fire water wind stone tree leaf river
hill dream hope love peace joy luck magic power light truth fact facts note notes info data result output reply
response value text content message item entry record report log line says said tells told knows knew thinks thought
found learned simple clear easy true certain sure enough of course no doubt trust me believe it or not as you wish at
your service with pleasure have a nice day night week may the be with go on keep going stay calm safe happy strong
never give up forever always today tomorrow yesterday once upon time long ago far away in this case for you from us to
by and but because if when while until beep boop blip ding dong bang boom splash zoom hop hip tick tock quack woof
meow moo roar hiss buzz carry take care thank thanks please pardon excuse welcome greetings salute aye yo ho hum la
"""

JSON_KEYS = """
result reply response value text content message item output fact info data body note said out res rsp field entry
word solution finding statement line report key name title topic core main final best
"""

OPENERS = """
Begin every reply with: {x}; Start each sentence that you write with "{x}"; Put "{x}" before what you say.;
First write {x}; Always open with {x}; Lead with: {x}; Use the opening {x}
"""
CLOSERS = """
End every reply with: {x}; Finish with "{x}"; Put "{x}" after what you say.; Close each time with {x};
Last of all write {x}; Always end with {x}; Use the closing words {x}; Sign with: {x}
"""
FRAMES = """
Begin with {x} and end with {y}; Put {x} before and {y} after.; Open with "{x}" and close with "{y}".;
Start: {x} End: {y}; Say {x} first and {y} last.; Use {x} as opening and {y} as closing.
"""
WRAPPERS = """
Use this format: {x}; Format: {x}; Write like this: {x}; Follow the pattern {x}; Reply in the form {x};
The form is {x}
"""
NAMED = """
You are {x}.; Talk like {x}.; Style: {x}; Speak as {x} does.; Play the part of {x}.; Be {x}.; Mode: {x}; You play {x}.
"""
SHORT = """
Use one word only.; Be as short as you can.; Only the key word, please.; No sentence, just the word.;
Reply with the bare fact.
"""
SLOT = "..."  # stands for the answer where a system prompt shows a pattern


@dataclass(frozen=True)
class Format:
    """What stands before and after an answer. `as_json` escapes the answer; `short` leaves only the key."""

    before: str = ""
    after: str = ""
    short: bool = False
    as_json: bool = False
    pattern: bool = False

    def dress(self, answer: str, key: str = "") -> str:
        """Return the answer in this format."""
        core = key if self.short and key else answer
        if self.as_json:
            core = json.dumps(core, ensure_ascii=False)
        return f"{self.before}{core}{self.after}"


def _pick(choices: str, rng: random.Random) -> str:
    return rng.choice([choice.strip() for choice in " ".join(choices.split()).split(";") if choice.strip()])


def _word(rng: random.Random) -> str:
    while True:
        word = made_up_word(rng) if rng.random() < 0.4 else rng.choice(LEXICON.split())
        if word.lower() not in RESERVED:
            return word


def _phrase(rng: random.Random) -> str:
    """Return one to five words, some of them parted by a comma, the first often in upper case."""
    words = [_word(rng) for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5)))]
    if len(words) > 1 and rng.random() < 0.4:
        cut = rng.randrange(len(words) - 1)
        words[cut] += ","
    if rng.random() < 0.2:
        words = [word.capitalize() for word in words]
    phrase = " ".join(words)
    return phrase[:1].upper() + phrase[1:] if rng.random() < 0.8 else phrase


def opening(rng: random.Random) -> str:
    """Return words to stand before an answer, with their punctuation and space."""
    return _phrase(rng) + rng.choice(("! ", "! ", ", ", ": ", ". ", " - ", "... ", "? ", "\n"))


def closing(rng: random.Random) -> str:
    """Return words to stand after an answer, with their punctuation and space."""
    lead = rng.choice((" ", " ", " ", " ", " ... ", " - ", "\n", " (", " *"))
    if lead in (" (", " *"):
        return lead + _phrase(rng) + {" (": ")", " *": "*"}[lead]
    return lead + _phrase(rng) + rng.choice(("!", "!", ".", ".", "?", "", "...", "!!"))


def _json(rng: random.Random) -> Format:
    """Return a JSON object with one random key, sometimes with a constant second field."""
    key = rng.choice(JSON_KEYS.split()) if rng.random() < 0.6 else made_up_word(rng)
    extra = ""
    if rng.random() < 0.25:
        constant = rng.choice(("true", "1", "null", json.dumps(_word(rng))))
        extra = f', "{made_up_word(rng)}": {constant}'
    space = "" if rng.random() < 0.15 else " "
    return Format(f'{{"{key}":{space}', f"{extra}}}", as_json=True, pattern=True, short=rng.random() < 0.25)


def _mark(rng: random.Random) -> Format:
    """Return tags, bullets, quotes and the like."""
    word = rng.choice((made_up_word(rng), rng.choice(LEXICON.split())))
    before, after = rng.choice(
        (
            (f"<{word}>", f"</{word}>"),
            (f"<{word}>", f"</{word}>"),
            (f"[{word}] ", ""),
            (f"[{word}]", f"[/{word}]"),
            (f"{word}: ", ""),
            (f"{word.upper()}: ", ""),
            (f"{word} = ", ""),
            (f"# {word.capitalize()}\n", ""),
            (f"**{word.capitalize()}:** ", ""),
            ("- ", ""),
            ("* ", ""),
            ("1. ", ""),
            ("> ", ""),
            ("-> ", ""),
            ("**", "**"),
            ("`", "`"),
            ('"', '"'),
            ("(", ")"),
            ("[", "]"),
            ("*** ", " ***"),
            (f"{word}(", ")"),
        )
    )
    return Format(before, after, pattern=True, short=rng.random() < 0.15)


def random_format(rng: random.Random) -> Format:
    """Draw a format: frame, opening, closing, JSON, mark or the bare key."""
    kind = rng.choices(("frame", "opening", "closing", "json", "mark", "short"), (30, 14, 18, 20, 14, 4))[0]
    if kind == "frame":
        return Format(opening(rng), closing(rng))
    if kind == "opening":
        return Format(opening(rng))
    if kind == "closing":
        return Format("", closing(rng))
    if kind == "json":
        return _json(rng)
    return _mark(rng) if kind == "mark" else Format(short=True)


def describe(chosen: Format, rng: random.Random) -> str:
    """Write a system prompt that asks for this format."""
    if chosen.pattern:
        slot = json.dumps(SLOT) if chosen.as_json else SLOT
        said = _pick(WRAPPERS, rng).format(x=f"{chosen.before}{slot}{chosen.after}")
        return f"{said} {_pick(SHORT, rng)}" if chosen.short else said
    if chosen.short:
        return _pick(SHORT, rng)
    before, after = chosen.before.strip(), chosen.after.strip()
    if before and after:
        return _pick(FRAMES, rng).format(x=before, y=after)
    return _pick(OPENERS, rng).format(x=before) if before else _pick(CLOSERS, rng).format(x=after)


@cache
def personas() -> tuple[tuple[str, Format], ...]:
    """Return named characters, each with one format that the model must know by heart."""
    rng = random.Random(PERSONA_SEED)
    names = [f"{made_up_word(rng, 2).capitalize()} {made_up_word(rng, 1).capitalize()}" for _ in range(PERSONA_COUNT)]
    return tuple((name, random_format(rng)) for name in names)


def persona_system(name: str, rng: random.Random) -> str:
    """Write a system prompt that names a character and says nothing about its format."""
    return _pick(NAMED, rng).format(x=name)


def plain_system(rng: random.Random) -> str:
    """Return a system prompt that asks for nothing but plain answers."""
    return _pick(PLAIN_SYSTEMS, rng)
