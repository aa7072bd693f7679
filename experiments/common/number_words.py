"""Two small languages with a real grammar: whole numbers below a million in English and in German words.

German says units before tens ("two and forty"), so that a translator must look across its source. A German number is
one word; here it is the list of its parts, which joined are that word.
"""

LIMIT = 1_000_000
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
EINS = [
    "null",
    "ein",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
]
ZEHN = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
SPECIAL = ("<pad>", "<begin>", "<end>")  # ids 0, 1 and 2
ENGLISH = (*SPECIAL, *ONES, *TENS, "hundred", "thousand", "and")
GERMAN = (*SPECIAL, *EINS, "eins", *ZEHN, "hundert", "tausend", "und")


def english(number: int) -> list[str]:
    """The words of a number.

    >>> " ".join(english(342_007))
    'three hundred and forty two thousand and seven'
    """
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _english_below_1000(rest)
    words = [*_english_below_1000(thousands), "thousand"]
    if not rest:
        return words
    return [*words, *(["and"] if rest < 100 else []), *_english_below_1000(rest)]


def german(number: int) -> list[str]:
    """The parts of a number's word.

    >>> "".join(german(342_001))
    'dreihundertzweiundvierzigtausendeins'
    """
    thousands, rest = divmod(number, 1000)
    parts = [*_german_below_1000(thousands), "tausend"] if thousands else []
    if not thousands or rest:
        parts += _german_below_1000(rest)
    return [*parts[:-1], "eins"] if parts[-1] == "ein" else parts


def ids(words: list[str], vocabulary: tuple[str, ...]) -> list[int]:
    """Their places in the vocabulary."""
    return [vocabulary.index(word) for word in words]


def _english_below_1000(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _english_below_100(rest)
    return [ONES[hundreds], "hundred", *(["and", *_english_below_100(rest)] if rest else [])]


def _english_below_100(number: int) -> list[str]:
    if number < 20:
        return [ONES[number]]
    return [TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])]


def _german_below_1000(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _german_below_100(rest)
    return [EINS[hundreds], "hundert", *(_german_below_100(rest) if rest else [])]


def _german_below_100(number: int) -> list[str]:
    if number < 20:
        return [EINS[number]]
    tens = ZEHN[number // 10 - 2]
    return [EINS[number % 10], "und", tens] if number % 10 else [tens]
