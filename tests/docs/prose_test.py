"""The prose of the documents: no sentence is longer than 25 words.

Usage: prose_test.py [DOCUMENT...]. Without arguments it reads README.md, CONTRIBUTING.md and docs/**/*.md.
Code, tables, headings and the list of promises are no prose. A code span or a link counts as its visible words;
a code span counts as one word.
"""

import bisect
import pathlib
import re
import sys
import unittest

WORDS_MAX = 25
ROOT = pathlib.Path(__file__).absolute().parents[2]
# Their wording is fixed: tests and comments cite them.
FIXED_SECTIONS = {"The promises"}

ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|No)\.$")
LIST_ITEM = re.compile(r"\s*([-*+]|\d+\.)\s+")
SENTENCE_END = re.compile(r"[.!?][\"')\]*]*(?=\s|$)")


def blocks(text):
    """Yields (line number, text) of every paragraph and list item."""
    lines, start = [], 0
    fenced = indented = fixed = False
    previous_blank = True

    def finish():
        if lines and not (fixed and LIST_ITEM.match(lines[0])):
            yield start, "\n".join(lines)
        lines.clear()

    for number, line in enumerate(text.splitlines() + [""], 1):
        blank = not line.strip()
        if line.lstrip().startswith("```"):
            fenced = not fenced
            yield from finish()
        elif fenced:
            pass
        elif blank:
            yield from finish()
        elif line.startswith("    ") and (previous_blank or indented):
            indented = True
            continue
        elif line.startswith("#"):
            yield from finish()
            fixed = line.lstrip("# ").strip() in FIXED_SECTIONS
        elif line.lstrip().startswith(("|", "<!--")):
            yield from finish()
        else:
            if LIST_ITEM.match(line):
                yield from finish()
            if not lines:
                start = number
            lines.append(line)
        indented = indented and blank
        previous_blank = blank
    yield from finish()


def plain(text):
    """The text as it is read, with as many line ends as before."""
    def keep_line_ends(visible):
        return lambda match: visible(match) + "\n" * (match.group(0).count("\n") - visible(match).count("\n"))

    text = re.sub(r"(`+)(.+?)\1", keep_line_ends(lambda _: "CODE"), text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", keep_line_ends(lambda m: m.group(1)), text)
    marker = LIST_ITEM.match(text)
    return text[marker.end():] if marker else text


def sentences(text):
    """Yields (line number, sentence) of a document's prose."""
    for start, block in blocks(text):
        block = plain(block)
        line_ends = [i for i, c in enumerate(block) if c == "\n"]
        begin = 0
        ends = [m.end() for m in SENTENCE_END.finditer(block) if not ABBREVIATION.search(block[:m.end()])]
        for end in ends + [len(block)]:
            sentence = block[begin:end]
            first = begin + len(sentence) - len(sentence.lstrip())
            if sentence.strip():
                yield start + bisect.bisect_left(line_ends, first), " ".join(sentence.split())
            begin = end


def word_count(sentence):
    return sum(any(c.isalnum() for c in word) for word in sentence.split())


def documents():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def long_sentences(paths):
    for path in paths:
        for line, sentence in sentences(path.read_text(encoding="utf-8")):
            words = word_count(sentence)
            if words > WORDS_MAX:
                name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
                yield f"{name}:{line}: {words} words: {sentence}"


class SentencesTest(unittest.TestCase):
    def test_a_sentence_ends_at_a_full_stop_before_a_space(self):
        self.assertEqual(list(sentences("One is 1.5. Two\nis `a. b`! Three")),
                         [(1, "One is 1.5."), (1, "Two is CODE!"), (2, "Three")])

    def test_an_abbreviation_ends_no_sentence(self):
        self.assertEqual(list(sentences("A disk, e.g. a fast one, is there.")),
                         [(1, "A disk, e.g. a fast one, is there.")])

    def test_code_tables_and_headings_are_no_prose(self):
        text = "# Head\n\n    code line\n\n    more\n\n```\nfenced\n```\n\n| cell |\n\nProse.\n"
        self.assertEqual(list(sentences(text)), [(13, "Prose.")])

    def test_a_list_item_is_read_by_itself_with_its_further_lines(self):
        self.assertEqual(list(sentences("Intro:\n- one\n  two\n2. three")),
                         [(1, "Intro:"), (2, "one two"), (4, "three")])

    def test_the_list_of_promises_is_left_out_and_nothing_else(self):
        text = "## The promises\n\nIntro.\n\n1. **Whole.** Fixed.\n\n## Next\n\n1. Item.\n"
        self.assertEqual(list(sentences(text)), [(3, "Intro."), (9, "Item.")])

    def test_a_link_counts_as_the_words_that_are_seen(self):
        self.assertEqual(list(sentences("See [the\ntext](a/b c.md) now. Then.")),
                         [(1, "See the text now."), (2, "Then.")])

    def test_only_what_has_a_letter_or_digit_is_a_word(self):
        self.assertEqual(word_count("a → b - 3 × **c**"), 4)


class DocumentsTest(unittest.TestCase):
    def test_no_sentence_is_too_long(self):
        paths = documents()
        self.assertGreater(len(paths), 8, "the documents are missing")
        found = list(long_sentences(paths))
        if found:
            self.fail(f"sentences of more than {WORDS_MAX} words:\n" + "\n".join(found))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        unittest.main()
    found = list(long_sentences(pathlib.Path(p).absolute() for p in sys.argv[1:]))
    print(*found, sep="\n")
    sys.exit(bool(found))
