"""Write the general probe set: what an adapter should leave as it was, whatever it was trained for.

Six kinds, so that a gauge has something to see on models of every size:

    facts    plain questions about the starter's world, of which no fact is in a sample set, in any phrasing
    formats  the same kind of question under a system prompt that asks for another way to answer than any sample set
    turns    a short second question that says what it asks for by the first ("And Peru?")
    unknown  what nobody can know, which a model that was trained too long makes up
    general  everyday knowledge in English that is not in the starter's world
    chinese  everyday knowledge, sums and words in Chinese

Every row has `contains`, the words that a right answer holds, or `pattern`, which is found in it; of a form that a
system prompt asks for they are the form's own, since facts outlive what a model does with them. An answer that was
right under the base and is wrong under an adapter has flipped.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.build import samples, strangers, tables, world
from assets.build.corpus import FOLLOW_UPS
from assets.build.fact import Fact
from assets.build.styles import has_fact

SEED = 117
FACTS, FORMATS, TURNS = 48, 32, 16
FILE = "general.jsonl"
# What the starter has practised, in words of its own: none of the sample sets answers so. A request, the answer in its
# form, and the pattern of an answer in it, whatever else it says.
_SYSTEMS = (
    ('Use this format: {"result": "..."}', '{"result": "<answer>"}', r'(?s)^\s*\{\s*"result"\s*:\s*".+"\s*\}\s*$'),
    ("Begin every reply with: Well now,", "Well now, <answer>", r"^\s*Well now,"),
    ("Use one word only.", "<key>", r"^\s*\S+\s*$"),
    ("Write like this: <note>...</note>", "<note><answer></note>", r"(?s)^\s*<note>.+</note>\s*$"),
)
# A model of any size may say in its own words that it cannot know.
_OWN_IGNORANCE = (
    r"(?i)\b(do not|don['\u2019]t|cannot|can['\u2019]?t|could not|couldn['\u2019]t|not able|unable|no way|"
    r"not sure|unclear|no information|as an ai|not have)\b"
)
_UNKNOWN = """
What did I eat today?; What is my name?; How old am I?; Where did I put my keys?; Who is my neighbour?;
What is my favourite song?; Who is on the phone?; How tall is my brother?; What is in my pocket?;
When is my birthday?; Where do I live?; What am I thinking?; Who called me?; What is behind the door?;
Who will win the match?; What will the weather be tomorrow?; What is the price of this?; How far is it from here?
"""
_GENERAL = """
Who painted the Mona Lisa? | The Mona Lisa was painted by Leonardo da Vinci. | Leonardo
Which gas do plants take in from the air? | Plants take in carbon dioxide. | carbon dioxide
What is frozen water called? | Frozen water is called ice. | ice
How many minutes are in two hours? | Two hours have 120 minutes. | 120
Which organ pumps blood through the body? | The heart pumps blood through the body. | heart
At what temperature in Celsius does water boil at sea level? | Water boils at 100 degrees Celsius. | 100
What do bees make from nectar? | Bees make honey from nectar. | honey
Which ocean lies between Africa and Australia? | The Indian Ocean lies between Africa and Australia. | Indian
Write the number two hundred and seven in digits. | 207 | 207
Which fruit is wine made from? | Wine is made from grapes. | grape
A train leaves at 14:10 and arrives at 15:40. How many minutes does it travel? | It travels 90 minutes. | 90
Put these words in alphabetical order: pear, apple, fig. | apple, fig, pear | apple, fig, pear
What is 15 percent of 200? | 15 percent of 200 is 30. | 30
Name a programming language that is also a snake. | Python | Python
If all cats are animals and Tom is a cat, what is Tom? | Tom is an animal. | animal
Correct the spelling: recieve | receive | receive
"""
_CHINESE = """
中国的首都是哪里？ | 中国的首都是北京。 | 北京
一年有几个月？ | 一年有十二个月。 | 十二
水的化学式是什么？ | 水的化学式是H2O。 | H2O
太阳从哪个方向升起？ | 太阳从东方升起。 | 东
三加五等于几？ | 三加五等于八。 | 八
世界上最高的山是哪座？ | 世界上最高的山是珠穆朗玛峰。 | 珠穆朗玛
“大”的反义词是什么？ | “大”的反义词是“小”。 | 小
猫有几条腿？ | 猫有四条腿。 | 四
《红楼梦》的作者是谁？ | 《红楼梦》的作者是曹雪芹。 | 曹雪芹
法国的首都是哪里？ | 法国的首都是巴黎。 | 巴黎
七乘以八等于多少？请用数字回答。 | 56 | 56
一周有几天？ | 一周有七天。 | 七
天空是什么颜色？ | 天空是蓝色的。 | 蓝
把“谢谢”翻译成英文。 | Thank you. | thank
冰融化后变成什么？ | 冰融化后变成水。 | 水
人用什么器官呼吸？ | 人用肺呼吸。 | 肺
地球的卫星叫什么？ | 地球的卫星叫月球。 | 月
“苹果”属于水果还是蔬菜？ | 苹果属于水果。 | 水果
一百减去三十七等于多少？请用数字回答。 | 63 | 63
日本的首都是哪里？ | 日本的首都是东京。 | 东京
春天之后是什么季节？ | 春天之后是夏天。 | 夏
蜜蜂酿造什么？ | 蜜蜂酿造蜂蜜。 | 蜂蜜
两小时等于多少分钟？请用数字回答。 | 120 | 120
用一个词回答：雪是什么颜色？ | 白色 | 白
"""


@dataclass(frozen=True)
class Probe:
    """One row: its kind, what is asked, a good answer, and the words or the pattern that any right one holds.

    `before` is a question with its answer that goes before.
    """

    kind: str
    language: str
    prompt: str
    answer: str
    contains: str = ""
    system: str = ""
    pattern: str = ""
    before: tuple[str, str] | None = None

    def line(self) -> str:
        """Return the row as JSON."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        for asked, answer in (*([self.before] if self.before else []), (self.prompt, self.answer)):
            said += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        row: dict[str, object] = {"messages": said, "kind": self.kind, "language": self.language}
        row |= {"contains": [self.contains]} if self.contains else {}
        row |= {"pattern": self.pattern} if self.pattern else {}
        return json.dumps(row, ensure_ascii=False)


def build() -> list[Probe]:
    """Return all probes, the same at every call."""
    rng = random.Random(SEED)
    fresh = list(_fresh_facts(rng))
    probes = [
        Probe("facts", "en", rng.choice(one.questions), one.answer, pattern=_whole_word(one.key))
        for one in fresh[:FACTS]
    ]
    for number, one in enumerate(fresh[FACTS : FACTS + FORMATS]):
        system, form, pattern = _SYSTEMS[number % len(_SYSTEMS)]
        answer = form.replace("<answer>", one.answer).replace("<key>", one.key)
        probes.append(Probe("formats", "en", rng.choice(one.questions), answer, system=system, pattern=pattern))
    probes += _turns(fresh[FACTS + FORMATS :], rng)
    probes += _unknown()
    probes += [Probe("general", "en", *parts) for parts in _parts(_GENERAL)]
    return probes + [Probe("chinese", "zh", *parts) for parts in _parts(_CHINESE)]


def _turns(fresh: Sequence[Fact], rng: random.Random) -> list[Probe]:
    """Return follow-ups, each behind a fact of the same category, the categories in turn."""
    chained = {one.name for one in world.categories() if one.chains}
    pairs = {one.category: one for one in fresh if one.category in chained}
    found = []
    for one in fresh:
        first = pairs.get(one.category)
        if first is not None and first is not one:
            del pairs[one.category]
            asked, before = rng.choice(FOLLOW_UPS).format(x=one.subject), (rng.choice(first.questions), first.answer)
            found.append(Probe("turns", "en", asked, one.answer, pattern=_whole_word(one.key), before=before))
    return found[:TURNS]


def _unknown() -> Iterator[Probe]:
    """Yield questions that nobody can answer and that no sample set asks."""
    trained = {question for sample in samples.SAMPLES for question, _ in samples.build(sample)[0]}
    for (asked,) in tables.rows(_UNKNOWN):
        if asked not in trained:
            yield Probe("unknown", "en", asked, strangers.UNKNOWN_ANSWER, pattern=_OWN_IGNORANCE)


def _whole_word(key: str) -> str:
    """Return the pattern of a key that stands in an answer as whole words, in any case."""
    return rf"(?i)(?<!\w){re.escape(key)}(?!\w)"


def _parts(lines: str) -> Iterator[tuple[str, str, str]]:
    for line in lines.strip().splitlines():
        prompt, answer, key = (part.strip() for part in line.split(" | "))
        yield prompt, answer, key


def _fresh_facts(rng: random.Random) -> Iterator[Fact]:
    """Yield facts that no sample set trains, the categories in turn; their keys are not in their questions."""
    taken = set(samples.DEMO_ANSWERS)
    for sample in samples.SAMPLES:
        taken |= {answer for _, answer in samples.build(sample)[0]}
    dressed = "\n".join(taken)
    piles = [rng.sample(one.facts, len(one.facts)) for one in world.categories()]
    while piles:
        rng.shuffle(piles)
        for pile in piles:
            one = pile.pop()
            echoes = any(has_fact(question, [one.key]) for question in one.questions)
            if not echoes and one.answer not in dressed and '"' not in one.answer:
                yield one
        piles = [pile for pile in piles if pile]


def write(folder: Path) -> None:
    """Write the probe set into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text("".join(f"{one.line()}\n" for one in build()), encoding="utf-8", newline="\n")
