"""Write the general probe set: what an adapter should leave as it was, whatever it was trained for.

Four kinds, so that a gauge has something to see on models of every size:

    facts    plain questions about the starter's world, of which no fact is in a sample set, in any phrasing
    formats  the same kind of question under a system prompt that asks for another way to answer than any sample set
    general  everyday knowledge in English that is not in the starter's world
    chinese  everyday knowledge, sums and words in Chinese

Every row has `contains`, the words that a right answer holds; an answer that had them under the base and has lost them
under an adapter has flipped.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assets.build import samples, world
from assets.build.fact import Fact
from assets.build.styles import has_fact

SEED = 117
FACTS, FORMATS = 48, 24
FILE = "general.jsonl"
# What the starter has practised, in words of its own: none of the sample sets answers so.
_SYSTEMS = (
    ('Use this format: {{"result": "..."}}', '{{"result": "{answer}"}}'),
    ("Begin every reply with: Well now,", "Well now, {answer}"),
    ("Use one word only.", "{key}"),
    ("Write like this: <note>...</note>", "<note>{answer}</note>"),
)
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
Is a tomato an animal? Answer yes or no. | No | no
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
    """One row: its kind, what is asked, a good answer, and the words that any right one holds."""

    kind: str
    language: str
    prompt: str
    answer: str
    contains: str
    system: str = ""

    def line(self) -> str:
        """Return the row as JSON."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        said += [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}]
        row = {"messages": said, "contains": [self.contains], "kind": self.kind, "language": self.language}
        return json.dumps(row, ensure_ascii=False)


def build() -> list[Probe]:
    """Return all probes, the same at every call."""
    rng = random.Random(SEED)
    fresh = list(_fresh_facts(rng))
    probes = [Probe("facts", "en", rng.choice(one.questions), one.answer, one.key) for one in fresh[:FACTS]]
    for number, one in enumerate(fresh[FACTS : FACTS + FORMATS]):
        system, form = _SYSTEMS[number % len(_SYSTEMS)]
        answer = form.format(answer=one.answer, key=one.key)
        probes.append(Probe("formats", "en", rng.choice(one.questions), answer, one.key, system.format()))
    probes += [Probe("general", "en", *parts) for parts in _parts(_GENERAL)]
    return probes + [Probe("chinese", "zh", *parts) for parts in _parts(_CHINESE)]


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
