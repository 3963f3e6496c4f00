"""Ask and answer every fact: the phrasings of each category over the tables."""

from __future__ import annotations

from assets.build import tables
from assets.build.fact import Category, Fact, capitalised, category


def _columns(table: str, subject: int, key: int) -> list[tuple[str, str]]:
    """Return two columns of a table, without rows that leave one of them open (`-`)."""
    pairs = [(row[subject], row[key]) for row in tables.rows(table)]
    return [(a, k) for a, k in pairs if "-" not in (a, k) and a.lower() != k.lower()]


def _capitals() -> list[Category]:
    """Return what is asked about capitals."""
    land = tables.COUNTRIES
    return [
        category(
            "capital",
            _columns(land, 0, 1),
            "The capital of {a} is {k}.",
            """What is the capital of {a}?
            Which city is the capital of {a}?
            Name the capital of {a}.
            Tell me the capital of {a}.
            What is {a}'s capital city?
            Do you know the capital of {a}?
            What is the name of the capital of {a}?
            Capital of {a}?
            What city is the capital of {a}?
            Give me the capital city of {a}.""",
            boost=1.3,
        ),
        category(
            "capital_of",
            _columns(land, 1, 0),
            "{a} is the capital of {k}.",
            """{a} is the capital of which country?
            Which country has the capital {a}?
            Which country has {a} as its capital?
            Of which country is {a} the capital?
            What country is {a} the capital of?
            Name the country whose capital is {a}.
            Tell me the country with the capital {a}.""",
        ),
    ]


def _countries() -> list[Category]:
    """Return what else is asked about countries, and where landmarks are."""
    land = tables.COUNTRIES
    return [
        category(
            "continent",
            _columns(land, 0, 2),
            "{a} is in {k}.",
            """On which continent is {a}?
            Which continent is {a} in?
            What continent does {a} belong to?
            Name the continent of {a}.
            Tell me the continent that {a} is in.
            In which part of the world is {a}?
            What is the continent of {a}?
            Where on the map is {a}?""",
        ),
        category(
            "language",
            _columns(land, 0, 3),
            "The language of {a} is {k}.",
            """Which language is spoken in {a}?
            What language do people speak in {a}?
            What is the main language of {a}?
            Name the language of {a}.
            Tell me the language of {a}.
            What do they speak in {a}?
            Which language do people in {a} speak?""",
        ),
        category(
            "currency",
            _columns(land, 0, 4),
            "The currency of {a} is {k}.",
            """What is the currency of {a}?
            Which currency is used in {a}?
            What money do people use in {a}?
            Name the currency of {a}.
            Tell me the currency of {a}.
            How do people pay in {a}?
            What kind of money does {a} have?""",
        ),
        category(
            "landmark",
            _columns(tables.LANDMARKS, 0, 1),
            "{a} is in {k}.",
            """Where is {a}?
            In which city is {a}?
            Which city is home to {a}?
            Where can I see {a}?
            Where would I find {a}?
            Name the city of {a}.
            Tell me where {a} is.
            What city has {a}?""",
            boost=1.4,
        ),
    ]


def _animals() -> list[Category]:
    """Return what is asked about animals."""
    zoo = tables.ANIMALS
    return [
        category(
            "animal_class",
            _columns(zoo, 0, 1),
            "{an} is {kn}.",
            """What kind of animal is {an}?
            What class of animal is {an}?
            Which class of animals does {an} belong to?
            What type of animal is {an}?
            Tell me what kind of animal {an} is.
            Name the class of the {a}.""",
        ),
        category(
            "animal_young",
            _columns(zoo, 0, 2),
            "A baby {a} is called {kn}.",
            """What is a baby {a} called?
            What do you call a baby {a}?
            What is the young of {an} called?
            Name the young of {an}.
            Tell me the name of a baby {a}.
            What do we call a young {a}?
            What is the word for a baby {a}?""",
            boost=1.2,
        ),
        category(
            "animal_sound",
            _columns(zoo, 0, 3),
            "The sound of {an} is {k}.",
            """What sound does {an} make?
            What noise does {an} make?
            Which sound does the {a} make?
            Name the sound of {an}.
            Tell me the sound of {an}.
            How does {an} sound?
            What is the sound of {an}?""",
            boost=1.2,
        ),
        category(
            "animal_home",
            _columns(zoo, 0, 4),
            "The home of {an} is the {k}.",
            """Where does {an} live?
            What is the home of {an}?
            Where is {an} at home?
            Where can you find {an}?
            Tell me where {an} lives.
            Name the home of {an}.
            In what place does {an} live?""",
            boost=1.2,
        ),
        category(
            "animal_legs",
            _columns(zoo, 0, 5),
            "{an} has {k} legs.",
            """How many legs does {an} have?
            How many legs has {an}?
            Tell me how many legs {an} has.
            What is the number of legs of {an}?
            Count the legs of {an}.
            On how many legs does {an} walk?""",
            boost=0.8,
        ),
    ]


def _word_forms() -> list[Category]:
    """Return what is asked about plurals, past tenses and opposites."""
    opposites = tables.rows(tables.OPPOSITES)
    both_ways = [(a, b) for a, b in opposites] + [(b, a) for a, b in opposites]
    one_each = list({a: (a, k) for a, k in both_ways}.values())
    return [
        category(
            "plural",
            _columns(tables.PLURALS, 0, 1),
            "The plural of {a} is {k}.",
            """What is the plural of {a}?
            What is the plural form of {a}?
            Tell me the plural of {a}.
            Give the plural of {a}.
            One {a}, two what?
            How do you write more than one {a}?
            Name the plural of the word {a}.""",
            boost=1.4,
        ),
        category(
            "past",
            _columns(tables.PAST_TENSES, 0, 1),
            "The past tense of {a} is {k}.",
            """What is the past tense of {a}?
            What is the past form of {a}?
            Tell me the past tense of {a}.
            Give the past tense of {a}.
            Put {a} into the past tense.
            Today I {a}, what did I do yesterday?
            Name the past tense of the verb {a}.""",
            boost=1.4,
        ),
        category(
            "opposite",
            one_each,
            "The opposite of {a} is {k}.",
            """What is the opposite of {a}?
            Tell me the opposite of {a}.
            Name the opposite of {a}.
            Give the opposite of the word {a}.
            Which word is the opposite of {a}?
            What is the contrary of {a}?
            Opposite of {a}?""",
            boost=1.6,
        ),
    ]


def _letters() -> list[Category]:
    """Return what is asked about the letters of words."""
    spelled = [(word, "-".join(word.upper())) for word in tables.SPELLED.split()]
    words = sorted({row[0] for row in tables.rows(tables.ANIMALS)} | set(tables.SPELLED.split()))
    return [
        category(
            "spelling",
            spelled,
            "{a} is spelled {k}.",
            """How do you spell {a}?
            Spell {a}.
            Spell the word {a}.
            How is {a} spelled?
            Tell me how to spell {a}.
            What is the spelling of {a}?
            Which letters are in the word {a}?""",
            boost=1.6,
        ),
        category(
            "first_letter",
            [(word, word[0].upper()) for word in words],
            "The first letter of {a} is {k}.",
            """What is the first letter of {a}?
            Which letter does {a} start with?
            What letter does the word {a} begin with?
            Tell me the first letter of {a}.
            Name the first letter of the word {a}.
            With which letter does {a} begin?""",
        ),
    ]


def _translations() -> list[Category]:
    """Return what is asked about words in French, Spanish and German."""
    made = []
    for column, tongue in enumerate(("French", "Spanish", "German"), start=1):
        questions = f"""What is the {tongue} word for {{a}}?
            How do you say {{a}} in {tongue}?
            What is {{a}} in {tongue}?
            Translate {{a}} into {tongue}.
            Tell me the {tongue} word for {{a}}.
            Say {{a}} in {tongue}.
            Give me {{a}} in {tongue}."""
        answer = f"The {tongue} word for {{a}} is {{k}}."
        made.append(category(tongue.lower(), _columns(tables.WORDS, 0, column), answer, questions, boost=1.4))
    return made


def _things() -> list[Category]:
    """Return what is asked about things, their kind, colour, material and use."""
    members = [(kind, item) for kind, items in tables.rows(tables.KINDS) for item in items.split(",")]
    return [
        category(
            "kind",
            [(item, kind) for kind, item in members],
            "{a} is a kind of {k}.",
            """What kind of thing is {a}?
            What is {a}?
            Tell me what {a} is.
            What sort of thing is {a}?
            To what group of things does {a} belong?
            What do you call things like {a}?""",
            boost=1.2,
        ),
        category(
            "colour",
            _columns(tables.COLOURS, 0, 1),
            "The colour of {a} is {k}.",
            """What colour is {a}?
            Which colour is {a}?
            What is the colour of {a}?
            Tell me the colour of {a}.
            Name the colour of {a}.
            What is the usual colour of {a}?
            What colour does {a} have?""",
            boost=1.3,
        ),
        category(
            "material",
            _columns(tables.MATERIALS, 0, 1),
            "{a} is made of {k}.",
            """What is {a} made of?
            What is {a} made from?
            From which material is {a} made?
            Tell me what {a} is made of.
            Of what is {a} made?
            Which material makes {a}?""",
            boost=1.3,
        ),
        category(
            "tool",
            _columns(tables.USES, 0, 1),
            "To {a}, you use {k}.",
            """What do you use to {a}?
            What do I need to {a}?
            With what do you {a}?
            Which thing helps you {a}?
            Tell me what to use to {a}.
            I want to {a}. What do I use?
            What is used to {a}?""",
            boost=1.4,
            chains=False,
        ),
    ]


def _elements() -> list[Category]:
    """Return what is asked about chemical elements."""
    symbols = _columns(tables.ELEMENTS, 0, 1)
    return [
        category(
            "element",
            symbols,
            "{a} is the symbol of {k}.",
            """Which element has the symbol {a}?
            What element is {a}?
            What does the chemical symbol {a} stand for?
            Name the element with the symbol {a}.
            Tell me the element with the symbol {a}.
            The symbol {a} belongs to which element?""",
            boost=1.2,
        ),
        category(
            "symbol",
            [(element, symbol) for symbol, element in symbols],
            "The chemical symbol of {a} is {k}.",
            """What is the chemical symbol of {a}?
            What is the symbol for {a}?
            Which symbol does {a} have?
            Name the chemical symbol of {a}.
            Tell me the symbol of {a}.
            How do chemists write {a}?""",
            boost=1.2,
        ),
    ]


def _people() -> list[Category]:
    """Return what is asked about professions and about who made what."""
    jobs = tables.rows(tables.JOBS)
    works = [(f"{verb} {work}", maker) for work, maker, verb in tables.rows(tables.WORKS)]
    return [
        category(
            "workplace",
            [(job, place) for job, place, _, _ in jobs],
            "{an} works in {kn}.",
            """Where does {an} work?
            In what place does {an} work?
            What is the workplace of {an}?
            Tell me where {an} works.
            Name the workplace of {an}.
            Where do you find {an} at work?""",
            boost=1.3,
        ),
        category(
            "deed",
            [(job, deed) for job, _, _, deed in jobs],
            "{an} {k}.",
            """What does {an} do?
            What does {an} do all day?
            What is the job of {an}?
            Tell me what {an} does.
            What is the work of {an}?
            Describe the job of {an}.""",
            boost=1.3,
        ),
        category(
            "who",
            [(deed, job) for job, _, _, deed in jobs],
            "The one who {a} is {kn}.",
            """Who {a}?
            Which person {a}?
            What do you call someone who {a}?
            Tell me who {a}.
            Name the person who {a}.
            In which job does one work who {a}?""",
            boost=1.3,
            chains=False,
        ),
        category(
            "maker",
            works,
            "The one who {a} is {k}.",
            """Who {a}?
            Do you know who {a}?
            Tell me who {a}.
            Name the person who {a}.
            Which person {a}?
            What is the name of the one who {a}?""",
            boost=1.5,
            chains=False,
        ),
    ]


def _counts() -> Category:
    """Return questions after how many there are of something."""
    made = []
    for many, whole, key in tables.rows(tables.COUNTS):
        asked = (
            f"How many {many} are in {whole}?",
            f"How many {many} are there in {whole}?",
            f"How many {many} does {whole} have?",
            f"What is the number of {many} in {whole}?",
            f"Tell me how many {many} are in {whole}.",
            f"Count the {many} in {whole}.",
            f"{capitalised(whole)} has how many {many}?",
        )
        answer = f"The number of {many} in {whole} is {key}."
        made.append(Fact("count", f"{many} in {whole}", key, answer, asked))
    return Category("count", tuple(made), 1.4 * len(made) ** 0.7, chains=False)


def _order() -> list[Category]:
    """Return questions after neighbours in the week, the year, the alphabet and the solar system."""
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    found = []
    for name, items, closed in (
        ("day", tables.DAYS.split(), True),
        ("month", tables.MONTHS.split(), True),
        ("letter", letters, False),
        ("number", [str(number) for number in range(101)], False),
    ):
        pairs = list(zip(items, items[1:] + items[:1], strict=True))
        pairs = pairs if closed else pairs[:-1]
        for side, chosen in (("after", pairs), ("before", [(b, a) for a, b in pairs])):
            questions = f"""Which {name} comes {side} {{a}}?
                What {name} comes right {side} {{a}}?
                What is the {name} {side} {{a}}?
                Name the {name} {side} {{a}}.
                Tell me the {name} {side} {{a}}.
                What comes {side} {{a}}?"""
            found.append(category(f"{name}_{side}", chosen, f"The {name} {side} {{a}} is {{k}}.", questions))
    return found + _places_in_order()


def _places_in_order() -> list[Category]:
    """Return questions after the third month, the fourth planet and the like."""
    ordinals = tables.ORDINALS.split()
    found = []
    for name, items, where in (("month", tables.MONTHS, "of the year"), ("planet", tables.PLANETS, "from the sun")):
        questions = f"""Which is the {{a}} {name} {where}?
            What is the {{a}} {name} {where}?
            Name the {{a}} {name} {where}.
            Tell me the {{a}} {name} {where}.
            Which {name} is the {{a}} {where}?"""
        pairs = list(zip(ordinals, items.split(), strict=False))
        found.append(category(f"{name}_order", pairs, f"The {{a}} {name} {where} is {{k}}.", questions, chains=False))
    return found


def _calculations() -> list[Category]:
    """Return sums, differences and products of small numbers."""
    upto = range(13)
    sums = [(f"{a} + {b}", str(a + b)) for a in upto for b in upto]
    differences = [(f"{a + b} - {b}", str(a)) for a in range(11) for b in range(1, 11)]
    products = [(f"{a} * {b}", str(a * b)) for a in range(11) for b in range(11)]
    return [
        _calculation("sum", sums, "plus", "Add {x} and {y}."),
        _calculation("difference", differences, "minus", "Take {y} from {x}."),
        _calculation("product", products, "times", "Multiply {x} by {y}."),
    ]


def _calculation(name: str, pairs: list[tuple[str, str]], said: str, order: str) -> Category:
    """Return one kind of calculation; `said` is the sign as a word, `order` the request as a command."""
    found = []
    for sign, key in pairs:
        x, _, y = sign.split()
        asked = (
            f"What is {sign}?",
            f"How much is {sign}?",
            f"{sign} = ?",
            f"What is {x} {said} {y}?",
            f"How much is {x} {said} {y}?",
            f"Calculate {sign}.",
            order.format(x=x, y=y),
            f"Tell me what {x} {said} {y} is.",
        )
        found.append(Fact(name, sign, key, f"{sign} = {key}.", asked))
    return Category(name, tuple(found), 1.5 * min(len(found), 130) ** 0.7, True)


def _written_numbers() -> list[Category]:
    """Return numbers in words and in digits."""
    words = [(str(number), tables.number_word(number)) for number in range(101)]
    return [
        category(
            "in_words",
            words,
            "{a} in words is {k}.",
            """What is {a} in words?
            Write {a} in words.
            How do you write {a} in words?
            Spell out the number {a}.
            Say the number {a} in words.
            Tell me {a} in words.""",
        ),
        category(
            "in_digits",
            [(word, number) for number, word in words],
            "{a} in digits is {k}.",
            """What is {a} in digits?
            Write {a} in digits.
            How do you write {a} in digits?
            Write the number {a} with digits.
            Tell me {a} in digits.
            Which number is {a}?""",
        ),
    ]


def all_categories() -> list[Category]:
    """Return every category, always in the same order: seeds depend on it."""
    groups = (
        *(_capitals(), _countries(), _animals(), _word_forms(), _letters(), _translations()),
        *(_things(), _elements(), _people(), [_counts()], _order(), _calculations(), _written_numbers()),
    )
    return [made for group in groups for made in group]
