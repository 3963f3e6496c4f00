"""Ask what nobody can answer: made-up subjects, and questions outside the world."""

from __future__ import annotations

import random
from functools import cache

from assets.build import tables, world
from assets.build.fact import capitalised, with_article

UNKNOWN_ANSWER = "I do not know that."
UNKNOWABLE = """
What will the weather be tomorrow?; Who will win the match?; What did I eat today?; What is my name?; How old am I?;
Write me a poem.; Tell me a story.; What time is it?; What is the news?; Where did I put my keys?;
What is the best film?; Who is my neighbour?; How do I fix my car?; What should I wear?; Which stock should I buy?;
What is the meaning of life?; How do I get rich?; Why is my computer slow?; What is my favourite song?;
Who is on the phone?; How tall is my brother?; Write a program for me.; Sing me a song.; Draw me a picture.;
What is in my pocket?; When is my birthday?; Where do I live?; What is the price of this?; How far is it from here?;
Can you book a flight?; What is today's date?; Recommend a book.; Give me a recipe.; Who is the best player?;
What am I thinking?; How does a computer work?; Why do people dream?; What happened yesterday?; Who called me?;
What is behind the door?
"""


ASKED_OF_STRANGERS = """
capital capital_of continent language currency landmark animal_class animal_young animal_sound animal_home animal_legs
french spanish german kind colour material workplace deed opposite past plural
"""
STARTS = "b bl br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr qu r s sh sk sl sn sp st t th tr v w y z"
VOWELS = "a e i o u ai au ea ee ie oa oo ou"
ENDS = "b ck d ff g k l m n ng nt p r rk rn rt s sh sk st t th x zz"


@cache
def unknowable() -> tuple[str, ...]:
    """Return questions that nothing in the world answers."""
    return tuple(question for (question,) in tables.rows(UNKNOWABLE))


def made_up_word(rng: random.Random, syllables: int = 0) -> str:
    """Return a word that means nothing, of one to three syllables unless told."""
    count = syllables or rng.choice((1, 2, 2, 3))
    ends = ["", "", "", *ENDS.split()]
    parts = [rng.choice(STARTS.split()) + rng.choice(VOWELS.split()) + rng.choice(ends) for _ in range(count)]
    return "".join(parts)


def unknown_question(rng: random.Random) -> str:
    """Ask something that the world does not hold: a made-up subject, or one of the unknowable questions."""
    if rng.random() < 0.3:
        return rng.choice(unknowable())
    fact = rng.choice(rng.choice([c for c in world.categories() if c.name in ASKED_OF_STRANGERS.split()]).facts)
    word = made_up_word(rng, rng.choice((2, 2, 3)))
    noun = fact.subject.split()[-1] if fact.subject.startswith(("a ", "an ", "the ")) else fact.subject
    stranger = word.capitalize() if noun[0].isupper() else word
    question = rng.choice(fact.questions)
    for old, new in ((with_article(noun), with_article(stranger)), (noun, stranger)):
        question = question.replace(old, new).replace(capitalised(old), capitalised(new))
    return question
