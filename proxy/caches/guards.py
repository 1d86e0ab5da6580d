"""Differences that embeddings overlook: in numbers, names, negations or word order."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal

Difference = Literal["", "numbers", "names", "negation", "question", "order", "words"]
"""How two texts differ; "": only in polite, empty or interchangeable words; "words": in other words."""

_EDGES: Final = "\"'“”„‚‘’«»‹›`()[]{}<>,;:!?.…¿¡،؛؟。、！？「」『』*"
_CODE: Final = re.compile(r"[\d_@/\\=<>#$%+|^~&*]|^-|[a-z][A-Z]|\w\.\w")  # not a word: its case matters
_NUMBER: Final = re.compile(r"[+-]?\d[\d.,:/%]*(?:st|nd|rd|th)?")
_QUOTE: Final = str.maketrans("’‘ʼ`", "''''")

_SHORT: Final = (
    (re.compile(r"\b(can)'?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\b(\w+)n't\b"), r"\1 not"),
    (re.compile(r"\b(what|where|who|how|when|why|that|it|there|here)'s\b"), r"\1 is"),
    (re.compile(r"\b(what|where|who|how|when|why)'re\b"), r"\1 are"),
    (re.compile(r"\bi'd like\b|\bi would like\b"), "i want"),
)
_PHRASES: Final = (  # applied to folded words in this order: removes how something is asked
    (r"^(hi|hello|hey) ", ""),
    (r"\b(please|kindly)\b ?", ""),
    (r"^(can|could|would|will) you (tell me|let me know) ", ""),
    (r"^(i want to know|i need to know|do you know|tell me|let me know) ", ""),
    (r"^(can|could|would|will) you ", ""),
    (r"^i want to (.+) how (do|can) i do (that|it|this)$", r"how to \1"),
    (r"\bhow (can|do|could) (i|you|we|one)\b|\bhow does one\b", "how to"),
    (r"^what is (the|a) way to\b", "how to"),
    (r"\bwhich\b", "what"),
    (r"^what does (.+) mean$", r"what is the meaning of \1"),
    (r"^what (\S+(?: \S+)?) (is|are|was|were)$", r"what \2 \1"),  # "tell me what a quark is"
    (r"^where (\S+(?: \S+)?) (is|are)$", r"where \2 \1"),
    (r"^(is|are|am|do|does) (there )?", "whether "),
    (r"^what (is|are) ", ""),  # "Tell me the capital" asks for what it is
    (r"\b(is|are) there\b", ""),
    (r"^(explain|write|show|give|describe) (to )?me\b", r"\1"),
    (r"\bin order to\b", "to"),
    (r"\binto\b", "to"),
    (r"\bdifferences between\b", "difference between"),
)
_REWRITES: Final = tuple((re.compile(pattern), by) for pattern, by in _PHRASES)
_FRONTED: Final = re.compile(r"^((?:in|on|at|for|with|using|under)\s[^,?!.]{1,40}),\s+(.+?)[\s?.!]*$", re.I)
_EMPTY: Final = frozenset("a an the is are am be do does".split())
_SAME: Final = {
    "quickly": "fast", "rapidly": "fast", "quick": "fast", "remove": "delete", "advantages": "benefits",
    "advantage": "benefit", "large": "big", "begin": "start", "purchase": "buy", "repair": "fix", "film": "movie",
    "films": "movies", "kids": "children", "automobile": "car", "picture": "image", "usa": "us",
}  # fmt: skip
_NEGATIONS: Final = frozenset(
    "not no never none nobody nothing nowhere neither nor without except unless cannot hardly "
    "nicht kein keine keinen keiner nie niemand ohne außer ne pas jamais sans aucun aucune sin nunca nadie ningún "
    "ninguna non mai senza não nem sem не нет без нельзя никогда niet geen zonder".split()
)
_NUMBERS: Final = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "double twice thrice once quarter dozen first second third fourth fifth sixth seventh eighth ninth tenth last "
    "i ii iii iv vi vii viii ix".split()
) - {"i"}
_QUESTION: Final = frozenset(
    "what who whom whose when where why how much many long often far can could should must may might will would did "
    "was were had have has i you he she it we they my your his her its our their me him us them "
    "all some any every each most least more less only".split()
)


def difference(one: str, other: str) -> Difference:
    """How two questions differ, the gravest difference first; "" means that embeddings may decide."""
    mine, theirs = canonical(one), canonical(other)
    if mine == theirs:
        return ""
    odd = (Counter(mine) - Counter(theirs)) + (Counter(theirs) - Counter(mine))
    if not odd:
        return "order"
    if any(_NUMBER.fullmatch(word) or word in _NUMBERS for word in odd):
        return "numbers"
    if not _NEGATIONS.isdisjoint(odd):
        return "negation"
    if not {*_names(one), *_names(other)}.isdisjoint(odd) or any(_CODE.search(word) for word in odd):
        return "names"
    return "words" if _QUESTION.isdisjoint(odd) else "question"


def canonical(text: str) -> tuple[str, ...]:
    """The essential words of a question, in order; texts with equal ones ask the same."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTE).strip()
    if fronted := _FRONTED.match(text):
        text = f"{fronted[2]} {fronted[1]}"
    folded = " ".join(_words(text))
    for pattern, by in _SHORT + _REWRITES:
        folded = pattern.sub(by, folded)
    return tuple(_SAME.get(word, word) for word in folded.split() if word not in _EMPTY)


def _words(text: str) -> Iterator[str]:
    """Words in lower case without surrounding punctuation; what looks like code stays unchanged."""
    for raw in text.split():
        if word := raw.strip(_EDGES):
            yield word if _CODE.search(word) else word.lower()


def _names(text: str) -> Iterator[str]:
    """Capitalized words that do not begin a sentence, in lower case."""
    begins = True
    for raw in text.split():
        word = raw.strip(_EDGES)
        if word[:1].isupper() and not begins and word != "I":
            yield word.lower()
        begins = raw.endswith((".", "!", "?", ":"))
