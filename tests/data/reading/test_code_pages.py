from __future__ import annotations

from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row

TEXTS = {
    "German": (["Ich heiße Jürgen Müller.", "Wie heißt du?", "Am liebsten Käsespätzle.", "Das ist schön.", "Größe"],
               ["cp1252", "cp1250", "latin-1", "iso8859_15", "mac_roman", "cp850", "cp437"]),
    "French": (["Où est la gare ?", "Je suis allé à l’école.", "Ça va très bien.", "Le garçon est là."],
               ["cp1252", "mac_roman"]),
    "Spanish": (["¿Cómo estás?", "El niño está en la montaña.", "¿Qué es esto?", "Mañana será otro día."],
                ["cp1252", "latin-1", "iso8859_15", "mac_roman", "cp850"]),
    "Portuguese": (["Não sei o que é isso.", "A informação é boa.", "Você está em São Paulo?"],
                   ["cp1252", "mac_roman"]),
    "English": (["It’s a “test” of the café.", "What is it — a naïve one?"], ["cp1252", "mac_roman"]),
    "Swedish": (["Vad är det för något?", "Jag går på gatan.", "Det är en ö."], ["cp1252", "mac_roman", "cp850"]),
    "Danish": (["Hvad er det på dansk?", "Jeg kan ikke få brød.", "En ø og en å."], ["cp1252", "mac_roman", "cp850"]),
    "Polish": (["Jak się masz?", "To jest żółta łódź.", "Nie wiem, co to są ćmy.", "Zażółć gęślą jaźń"],
               ["cp1250", "iso8859_2", "cp852"]),
    "Czech": (["Jak se máš?", "Příliš žluťoučký kůň.", "To není dobře.", "Děkuji, že jsi přišel."],
              ["cp1250", "iso8859_2", "cp852"]),
    "Hungarian": (["Hogy vagy?", "Ez egy őrült ötlet.", "A tűz és a víz nem jó."], ["cp1250", "iso8859_2"]),
    "Turkish": (["Bugün hava nasıl?", "Bu çok güzel bir şey.", "Işık için teşekkürler."], ["cp1254", "iso8859_9"]),
    "Russian": (["Как дела?", "Меня зовут Иван.", "Это очень хорошая книга.", "Сколько это стоит?", "Ещё"],
                ["cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"]),
    "Greek": (["Τι κάνεις;", "Με λένε Γιώργο.", "Η Αθήνα είναι πρωτεύουσα.", "Πού είναι το σπίτι;"],
              ["cp1253", "iso8859_7"]),
    "Korean": (["오늘의 날씨는 어떻습니까?", "저는 학생입니다.", "안녕하세요", "한국어를 공부하고 있습니다."],
               ["cp949", "euc_kr"]),
    "Japanese": (["今日は良い天気です。", "私は学生です。", "東京都", "日本語を勉強しています。"], ["cp932", "euc_jp"]),
    "Chinese": (["你好，世界", "今天天气怎么样？", "我是学生。", "他们在学习中文，这是一本好书。"], ["gb18030", "gbk"]),
    "Taiwanese": (["你好，世界", "今天天氣怎麼樣？", "我是學生。", "他們在學習中文，這是一本好書。"], ["big5"]),
}  # fmt: skip
CASES = [(name, page) for name, (_, pages) in TEXTS.items() for page in pages]


@pytest.mark.parametrize(("name", "page"), CASES)
def test_a_code_page_is_read_right_or_refused_by_line(tmp_path: Path, name: str, page: str) -> None:
    texts = TEXTS[name][0]
    samples = [[text] for text in texts] + [texts[:2], texts, texts * 10, texts * 50]
    for number, sample in enumerate(samples):
        for header in ("question;answer", "text;label"):
            path = tmp_path / f"{number}.csv"
            path.write_bytes(
                "\r\n".join(
                    [header, *(f"{text.replace(';', '.')};{text.replace(';', '.')}" for text in sample), ""]
                ).encode(page)
            )
            for index, record in enumerate(read_rows(path)):
                if isinstance(record, Row):
                    assert set(record.fields.values()) == {sample[index].replace(";", ".")}
                else:
                    assert record.kind == "encoding" and "UTF-8" in record.fix


# What is read, and not only refused, once a text has some lines.
READ = [*[(name, pages[0]) for name, (_, pages) in TEXTS.items()], ("Japanese", "euc_jp")]


@pytest.mark.parametrize(("name", "page"), READ)
def test_a_text_of_some_lines_is_read(tmp_path: Path, name: str, page: str) -> None:
    texts = [text.replace(";", ".") for text in TEXTS[name][0]] * 3
    (tmp_path / "rows.csv").write_bytes(
        "\n".join(["question;answer", *(f"{text};{text}" for text in texts)]).encode(page)
    )
    records = list(read_rows(tmp_path / "rows.csv"))
    assert [record.fields["answer"] for record in records if isinstance(record, Row)] == texts
