"""Small files as people save them, in many code pages: each text is read as it was written, or refused by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.data.reading.code_pages import find_code_page
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row

_WESTERN = ("cp1252", "iso8859_15", "mac_roman")
_CENTRAL = ("cp1250", "iso8859_2")
# What people train on, by the language of a set: questions with answers.
PAIRS: dict[str, tuple[tuple[str, ...], list[tuple[str, str]]]] = {
    "German shop": (_WESTERN, [
        ("Welche Öffnungszeiten hat die Filiale in Köln?", "Werktags von 9 bis 18 Uhr, samstags bis 13 Uhr."),
        ("Kann ich die Bestellung zurückschicken?", "Ja, innerhalb von 30 Tagen, das Porto übernehmen wir."),
        ("Was kostet der Versand nach Österreich?", "Der Versand kostet 6,90 € und dauert drei Tage."),
        ("Wo finde ich die Größentabelle?", "Unten auf jeder Artikelseite, neben den Maßen."),
        ("Gibt es das Kleid auch in Grün?", "Leider nur in Weiß, Blau und Schwarz."),
    ]),
    "German one line": (_WESTERN, [("Heißt es Straße oder Strasse?", "Straße, außer in der Schweiz.")]),
    "French cooking": (_WESTERN, [
        ("Combien de temps faut-il cuire le gâteau ?", "Trente minutes à 180 degrés."),
        ("Peut-on remplacer la crème fraîche ?", "Oui, par du yaourt grec très égoutté."),
        ("Quel vin servir avec la bûche de Noël ?", "Un vin doux et frais, après le café."),
        ("Où conserver les œufs ?", "Au réfrigérateur, la pointe vers le bas."),
        ("Comment éviter les grumeaux ?", "Versez le lait petit à petit, sans cesser de mélanger."),
    ]),
    "Spanish travel": (_WESTERN, [
        ("¿Dónde puedo cambiar dinero?", "En el banco que está junto a la estación."),
        ("¿A qué hora sale el último autobús?", "A las once y media, todos los días."),
        ("¿Cuánto cuesta una habitación?", "Ochenta euros, con desayuno y baño."),
        ("¿Hay algún médico cerca?", "Sí, en la calle Peñíscola número 3."),
        ("¿Se puede nadar en el río?", "Sólo en verano, según el señor Núñez."),
    ]),
    "Portuguese bank": (_WESTERN, [
        ("Como faço para abrir uma conta?", "Basta levar o cartão de cidadão à agência."),
        ("Qual é a comissão da transferência?", "Não há comissão para operações nacionais."),
        ("O cartão não funciona, e agora?", "Ligue já para a nossa linha de apoio."),
        ("Até quando posso pagar a prestação?", "Até ao último dia útil do mês."),
    ]),
    "Italian museum": (_WESTERN, [
        ("Perché il museo è chiuso lunedì?", "Per la manutenzione, come in molte città."),
        ("Quanto costa il biglietto per l'università?", "È gratuito per gli studenti, c'è solo la prenotazione."),
        ("Dov'è il caffè?", "Al piano terra, vicino alla libreria. È più economico."),
    ]),
    "Swedish school": (_WESTERN, [
        ("När börjar skolan efter påsk?", "På tisdag klockan åtta, som för alla andra."),
        ("Får jag låna en dator över helgen?", "Ja, men den måste lämnas tillbaka på måndag."),
        ("Vad äter vi på fredag?", "Köttbullar med potatis och lingon, och det är gott."),
    ]),
    "Danish bikes": (_WESTERN, [
        ("Hvor kan jeg købe en brugt cykel?", "På torvet, hver lørdag før frokost."),
        ("Skal børn have hjelm på?", "Nej, men det er en god idé og vi låner gerne ud."),
        ("Hvad gør jeg, når kæden er knækket?", "Så kører du den til værkstedet, det er gratis."),
    ]),
    "Finnish sauna": (_WESTERN, [
        ("Kuinka lämmin sauna on?", "Yleensä noin kahdeksankymmentä astetta, se on hyvä."),
        ("Mitä tämä sana tarkoittaa?", "En tiedä, kysy äidiltä."),
        ("Missä pöytä on?", "Se on keittiössä, näkyy tästä."),
    ]),
    "Dutch office": (_WESTERN, [
        ("Hoeveel financiële ruimte is er?", "De coördinator heeft dat niet gezegd."),
        ("Wat zijn de ideeën voor de reünie?", "Een etentje met de collega's in België."),
    ]),
    "Icelandic": (("cp1252",), [
        ("Hvað heitir þú?", "Ég heiti Guðrún og það er gaman að kynnast þér."),
        ("Hvar er næsta búð?", "Hún er við höfnina, þú gengur í fimm mínútur."),
    ]),
    "English accents": (_WESTERN, [
        ("What is a café au lait?", "It's coffee with hot milk, a classic of the French café."),
        ("Who wrote Les Misérables?", "Victor Hugo, in 1862."),
        ("How do I write a résumé?", "Keep it to one page and lead with what you did."),
    ]),
    "English quotes": (("cp1252", "mac_roman"), [
        ("What’s the capital of France?", "It’s “Paris” – of course."),
        ("Don’t you know?", "I don’t… that is the problem."),
    ]),
    "English signs": (("cp1252",), [
        ("How hot is it in the oven?", "Set it to 180 °C for the first ½ hour."),
        ("What is the price?", "It is £20 or 25 €, plus ±5 % for the shipping."),
    ]),
    "Product names": (_WESTERN, [
        ("Häagen-Dazs Crème Brûlée 460 ml", "ice cream"), ("Nestlé Nescafé Gold", "coffee"),
        ("Citroën C3 Pare-brise", "car part"), ("Löwenbräu Urtyp 0,5 l", "beer"),
    ]),
    "Names": (_WESTERN, [
        ("José", "Muñoz"), ("Renée", "Lefèvre"), ("Jürgen", "Groß"), ("Zoë", "Brontë"), ("Åsa", "Sjöberg"),
        ("João", "Conceição"),
    ]),
    "One name": (_WESTERN, [("name", "Müller")]),
    "Capitals": (_WESTERN, [("ÄNDERUNG DER GEBÜHREN", "ÜBER 100 EURO"), ("MÜLLTONNE", "GRÖSSE XL")]),
    "Code": (_WESTERN, [
        ("def größe(x): return x * 2  # verdoppelt", "x = größe(3)"),
        ("System.out.println('Schließen');", "// für später"),
    ]),
    "Polish shop": (_CENTRAL, [
        ("Jak długo trwa wysyłka?", "Zwykle dwa dni, ale to zależy od kuriera."),
        ("Czy mogę zwrócić książkę?", "Tak, w ciągu czternastu dni."),
        ("Gdzie jest najbliższy sklep?", "Przy ulicy Żeromskiego, obok apteki."),
        ("Ile kosztuje przesyłka do Łodzi?", "Około piętnaście złotych."),
    ]),
    "Czech weather": (_CENTRAL, [
        ("Jaké bude zítra počasí?", "Zítra bude zataženo a odpoledne může pršet."),
        ("Kdy přijde sníh?", "Předpověď říká, že na horách už příští týden."),
        ("Je v řece teplá voda?", "Ne, má sotva deset stupňů, což je málo."),
    ]),
    "Hungarian library": (_CENTRAL, [
        ("Mikor van nyitva a könyvtár?", "Hétfőtől péntekig, reggel kilenctől."),
        ("Hány könyvet vihetek haza?", "Egyszerre ötöt, és három hétig lehet nálad."),
        ("Kell fizetni a késésért?", "Igen, de nem sok, és kétszer meghosszabbítható."),
    ]),
    "Romanian": (("cp1250", "iso8859_2"), [
        ("Care este capitala României?", "Capitala este Bucureşti, pe malul Dâmboviţei."),
        ("Ce mai faci?", "Sunt bine, mulţumesc, şi tu?"),
    ]),
    "Croatian": (_CENTRAL, [
        ("Gdje se nalazi željeznički kolodvor?", "Pokraj glavnog trga, pet minuta pješice."),
        ("Što je to?", "To je čaša s vodom, a ne šalica."),
    ]),
    "Croatian one line": (_CENTRAL, [("Tko je napisao Judita?", "Marko Marulić.")]),
    "Croatian tea": (_CENTRAL, [("Kako se kuha čaj?", "Prelijte listiće vrućom vodom i pričekajte.")]),
    "Bosnian": (_CENTRAL, [("Kuća je velika?", "Da, kuća je veća od moje."), ("Više ili manje?", "Više, još više.")]),
    "Serbian in Latin letters": (_CENTRAL, [("Ko je došao?", "Moj đak."), ("Šta je to?", "To je ćup za vodu.")]),
    "Romanian tea": (("cp1250", "iso8859_2"), [("Cum se face ceaiul?", "Se toarnă apă fierbinte peste frunze.")]),
    "Welsh": (("iso8859_14",), [("Ble mae'r tŷ?", "Mae'r tŷ ar y bryn, gyda dŵr gerllaw.")]),
    "Esperanto": (("iso8859_3",), [("Kial la ĉielo estas blua?", "Ĉar la aero estas tia.")]),
    "Slovene": (_CENTRAL, [("Kje je najbližja trgovina?", "Čez cesto, pri šoli. Želim vam lep dan.")]),
    "Russian bank": (("cp1251", "koi8_r", "cp866"), [
        ("Как открыть счёт в банке?", "Возьмите паспорт и приходите в любое отделение."),
        ("Сколько стоит перевод?", "Переводы внутри страны бесплатны."),
        ("Где моя карта?", "Она будет готова через пять дней."),
    ]),
    "Russian one line": (("cp1251", "koi8_r"), [("Кто написал Войну и мир?", "Лев Толстой.")]),
    "Russian short": (("cp1251",), [("Да", "Нет"), ("Мир", "Дом")]),
    "Russian with English": (("cp1251",), [
        ("Что такое Python?", "Это язык программирования, как Java или C++."),
        ("Как установить pip?", "Запустите python -m ensurepip и подождите."),
    ]),
    "Ukrainian": (("cp1251",), [
        ("Яка столиця України?", "Київ, найбільше місто країни."),
        ("Де можна поїсти?", "Біля вокзалу є їдальня, її всі хвалять."),
    ]),
    "Bulgarian": (("cp1251",), [("Колко е часът?", "Сега е три и половина следобед."), ("Къде си?", "Вкъщи съм.")]),
    "Greek sea": (("cp1253", "iso8859_7"), [
        ("Πόσο απέχει η θάλασσα;", "Περίπου δέκα λεπτά με τα πόδια."),
        ("Τι ώρα ανοίγει το μουσείο;", "Στις εννέα το πρωί, εκτός Δευτέρας."),
        ("Ποιος έγραψε την Οδύσσεια;", "Ο Όμηρος, σύμφωνα με την παράδοση."),
    ]),
    "Greek short": (("cp1253",), [("Ναι", "Όχι")]),
    "Turkish food": (("cp1254",), [
        ("Mantı nasıl yapılır?", "Önce hamur yoğrulur, sonra küçük kareler kesilir."),
        ("Türk kahvesi için ne gerekir?", "İnce çekilmiş kahve, su ve küçük bir cezve."),
        ("Bu çorba acı mı?", "Hayır, ama istersen biber ekleyebilirsin."),
    ]),
    "Lithuanian": (("cp1257",), [
        ("Kiek gyventojų turi Vilnius?", "Apie šešis šimtus tūkstančių žmonių."),
        ("Kur yra artimiausia vaistinė?", "Už kampo, šalia mokyklos, dirba visą parą."),
    ]),
    "Latvian": (("cp1257",), [("Kā tevi sauc?", "Mani sauc Jānis, es dzīvoju Rīgā kopš bērnības.")]),
    "Latvian tea": (("cp1257", "iso8859_13"), [("Kā pagatavot tēju?", "Aplejiet lapas ar karstu ūdeni.")]),
    "Latvian hare": (("cp1257", "iso8859_4"), [("Ko ēd zaķis?", "Zāli, burkānus un kāpostus.")]),
    "Estonian": (("cp1257",), [("Kui palju see maksab?", "Kümme eurot, õpilastele on odavam. Täna müüme ka öösel.")]),
    "Korean": (("cp949",), [
        ("서울에서 부산까지 얼마나 걸립니까?", "기차로 두 시간 반쯤 걸립니다."),
        ("환불은 어떻게 받나요?", "영수증을 가지고 매장으로 오시면 됩니다."),
        ("이 옷은 다른 색도 있어요?", "네, 검은색과 흰색이 있습니다."),
    ]),
    "Korean one line": (("cp949",), [("김치는 무엇인가요?", "배추로 만든 음식입니다.")]),
    "Korean names": (("cp949",), [("김민준", "부산"), ("박서연", "대구"), ("최지우", "광주")]),
    "Japanese": (("cp932", "euc_jp"), [
        ("駅までどのくらいかかりますか。", "歩いて十分ぐらいです。"),
        ("この本はいくらですか。", "千二百円です。"),
        ("返品はできますか。", "はい、三十日以内なら大丈夫です。"),
    ]),
    "Japanese one line": (("cp932", "euc_jp"), [("納豆とは何ですか。", "大豆を発酵させた食べ物です。")]),
    "Japanese names": (("cp932", "euc_jp"), [("佐藤", "東京"), ("鈴木", "大阪"), ("高橋", "名古屋")]),
    "Katakana": (("cp932", "euc_jp"), [("コーヒー", "ドリンク"), ("ハンバーガー", "フード"), ("ｺｰﾋｰ", "ﾄﾞﾘﾝｸ")]),
    "Chinese": (("gb18030",), [
        ("怎么申请退款？", "请在订单页面点击退款，我们会在三天内处理。"),
        ("北京到上海有多远？", "大约一千二百公里，坐高铁要四个半小时。"),
        ("这件衣服有别的颜色吗？", "有的，还有黑色和白色。"),
    ]),
    "Chinese one line": (("gb18030", "big5"), [("水的化學式是什麼？", "是H2O。")]),
    "Chinese names": (("gb18030",), [("王小明", "北京"), ("李娜", "上海"), ("张伟", "广州")]),
    "Taiwanese": (("big5",), [
        ("請問怎麼去故宮？", "搭捷運到士林站，再轉公車就可以了。"),
        ("這裡可以刷卡嗎？", "可以，但是最低消費要三百元。"),
        ("明天會下雨嗎？", "氣象局說下午有雷陣雨。"),
    ]),
    "Vietnamese": (("cp1258",), [("Tên ban là chi?", "Tôi là sinh viên, sông Hông.")]),
    "Hebrew": (("cp1255",), [("מה שלומך היום?", "אני בסדר, תודה."), ("כמה זה עולה?", "עשרים שקלים.")]),
    "Arabic": (("cp1256",), [("كيف حالك؟", "أنا بخير، شكرا لك."), ("أين المحطة؟", "في نهاية الشارع.")]),
    "Thai": (("cp874",), [("สวัสดีครับ", "ผมชื่อสมชาย"), ("ราคาเท่าไหร่", "ยี่สิบบาท")]),
}  # fmt: skip


def small_files(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each kind of file that holds the same pairs."""
    yield "comma.csv", "\n".join(["question,answer", *(f'"{ask}","{reply}"' for ask, reply in pairs)])
    yield "semicolon.csv", "\r\n".join(["question;answer", *(f"{ask};{reply}" for ask, reply in pairs), ""])
    yield "tabs.tsv", "\n".join(["question\tanswer", *(f"{ask}\t{reply}" for ask, reply in pairs)])
    lines = [json.dumps({"question": ask, "answer": reply}, ensure_ascii=False) for ask, reply in pairs]
    yield "rows.jsonl", "\n".join(lines) + "\n"
    yield "rows.json", f"[{', '.join(lines)}]"
    yield "text.txt", "\n\n".join(f"{ask} {reply}" for ask, reply in pairs)


CASES = [(name, page) for name, (pages, _) in PAIRS.items() for page in (*pages, "utf-16")]


def outcomes(folder: Path, name: str, page: str) -> Iterator[tuple[str, str]]:
    """Yield for each small file whether it was read right, refused or read wrong, and what was read."""
    pairs = PAIRS[name][1]
    for file, text in small_files(pairs):
        if file == "semicolon.csv" and any(";" in cell for pair in pairs for cell in pair):
            continue
        path = folder / file
        path.write_bytes(text.encode(page))
        fields = "text" if file == "text.txt" else "question"
        right = [f"{ask} {reply}" if fields == "text" else ask + reply for ask, reply in pairs]
        records = list(read_rows(path))
        values = ["".join(map(str, one.fields.values())) for one in records if isinstance(one, Row)]
        problems = [one.kind for one in records if not isinstance(one, Row)]
        strange = [value for value in values if value not in right]
        if strange or set(problems) - {"encoding"}:
            yield "wrong", f"{file}: {strange} {problems}"
        else:
            yield ("refused", file) if problems else ("right", file)


@pytest.mark.parametrize(("name", "page"), CASES)
def test_no_small_file_is_read_as_other_letters(tmp_path: Path, name: str, page: str) -> None:
    assert [found for verdict, found in outcomes(tmp_path, name, page) if verdict == "wrong"] == []


# Files of three lines and more in the page that a spreadsheet or editor of their country writes.
COMMON = [
    *((name, "cp1252") for name in ("German shop", "French cooking", "Spanish travel", "Portuguese bank")),
    *((name, "cp1252") for name in ("Swedish school", "Danish bikes", "English accents", "English quotes")),
    *((name, "cp1250") for name in ("Polish shop", "Czech weather", "Hungarian library")),
    *(("Russian bank", "cp1251"), ("Greek sea", "cp1253"), ("Turkish food", "cp1254"), ("Korean", "cp949")),
    *(("Japanese", "cp932"), ("Japanese", "euc_jp"), ("Chinese", "gb18030"), ("Taiwanese", "big5")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "page"), COMMON)
def test_a_common_table_of_some_lines_is_read(tmp_path: Path, name: str, page: str) -> None:
    assert {verdict for verdict, _ in outcomes(tmp_path, name, page)} == {"right"}


# A sign in an else plain text is read as itself or costs its row: "£20" is not "ú20", "½ cup" not "œ cup".
FRAMES = {
    "cp1252": ["Add {} cup of sugar to it.", "The price is {}20 for you.", "It is 20{} in the room.",
               "Das kostet {}20 und ist nicht teuer.", "Il y a {} de sucre dans le café.",
               "El niño tiene {} de la leche."],
    "cp1250": ["To jest {} i nie wiem, co się stało.", "Stojí 20{} v obchodě, že ano, je to moc."],
    "cp1251": ["Это {} и не больше, как я сказал.", "Цена 20{} за штуку, это дорого."],
    "cp1253": ["Είναι {} και δεν ξέρω τι να πω.", "Κοστίζει 20{} στο μαγαζί."],
    "cp1254": ["Bu çok {} ve güzel bir şey.", "Fiyat 20{} için ne dersin, nasıl?"],
}  # fmt: skip
SIGNS = "½¼¾£¥€°±§©®™µ×÷¢¹²³ºª«»‘’“”…–—•·¬¦¨´¸†‡‰¶"


@pytest.mark.parametrize("page", FRAMES)
def test_no_sign_is_read_as_a_letter_or_another_sign(page: str) -> None:
    for frame in FRAMES[page]:
        for sign in SIGNS:
            try:
                text = f"question;answer\n{frame.replace('{}', sign)};ok\n"
                found = find_code_page(text.encode(page), is_cut=False)
            except UnicodeEncodeError:
                continue
            assert found is None or text.encode(page).decode(found[0]) == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("cp850", "The price is ¢20 for you."),  # the byte of ½
        ("cp850", "Das kostet ¥20 und ist nicht teuer."),  # of ¾
        ("mac_roman", "The price is º20 for you."),  # of ¼
        ("mac_roman", "Add ∞ cup of sugar to it."),  # of °
        ("cp850", "Add ▒ cup of sugar to it."),  # of ±
        ("mac_roman", "What is it? It is a test.\nAdd ’ cup of sugar to it."),  # of Ő, and "is" is Hungarian too
        ("mac_latin2", "Stojí 20† v obchodě, že ano, je to moc."),  # of ’, ž and ě
    ],
)
def test_a_sign_that_stands_with_no_figure_is_asked_about(page: str, text: str) -> None:
    assert find_code_page(f"question;answer\n{text};ok\n".encode(page), is_cut=False) is None


def test_signs_that_stand_with_their_figures_are_read() -> None:
    for text in (
        "Add ½ cup of it.",
        "It is 20 °C in the room.",
        "It is 20° in the room.",
        "That is ± 2 or ±2.",
        "n° 5 is it",
    ):
        found = find_code_page(f"question;answer\n{text};ok\n".encode("cp1252"), is_cut=False)
        assert found is not None and found[0] == "cp1252"


@pytest.mark.parametrize("stranger", ["El Niño", "garçon", "Åse", "São Paulo", "20 °C", "½ Liter", "„Tee“"])
def test_one_word_of_a_neighbour_costs_a_german_table_no_row(tmp_path: Path, stranger: str) -> None:
    rows = [*PAIRS["German shop"][1], (f"Was heißt {stranger}?", "Das weiß ich nicht, es tut mir leid für dich.")]
    path = tmp_path / "fragen.csv"
    path.write_bytes("\r\n".join(["question;answer", *(f"{ask};{reply}" for ask, reply in rows)]).encode("cp1252"))
    assert [tuple(one.fields.values()) for one in read_rows(path) if isinstance(one, Row)] == rows
