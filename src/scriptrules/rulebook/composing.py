"""YAML as a tree of texts with their places: composed from PyYAML's events, bounded, and without constructors.

Nothing in a document decides what is made of it: there are mappings, lists and scalars, and a scalar is its text.
Which of them are numbers is said by `plain_value`, after the core schema of YAML 1.2: ``on``, ``yes`` and
``2024-01-31`` are texts, as their authors expect. Called in workers only.

Tried and rejected: `yaml.compose` (it is recursive, and expands nothing but counts nothing either); libyaml, which is
thirty times faster, and C that reads hostile text; the resolver of YAML 1.1, to which the key ``on`` is True.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from scriptrules.diagnostics import CODES, Diagnostic, Rejected

TEXT_MAX = 64 * 1024  # characters: a hundred times what a rule needs, and a second of PyYAML
DEPTH_MAX = 20  # levels of mappings and lists
NODES_MAX = 5_000  # with what aliases repeat

_INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_DIGITS_MAX = 40  # of an integer; no longer one has 64 bits
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAGS = {"!!str": "tag:yaml.org,2002:str", "!": "!"}


class Place(msgspec.Struct, frozen=True):
    """Where something stands: lines from 1, columns from 0 in UTF-8 bytes, as in `ast`."""

    line: int
    column: int
    end_line: int
    end_column: int


class Node:
    """A part of a document."""

    __slots__ = ("place", "size")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.size = 1  # nodes in it, with what aliases repeat


class Scalar(Node):
    """A text. `plain` says whether it is written without quotes, so that it may mean a number."""

    __slots__ = ("plain", "text")

    def __init__(self, place: Place, text: str, plain: bool) -> None:
        super().__init__(place)
        self.text = text
        self.plain = plain


class Items(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.items: list[Node] = []


class Pairs(Node):
    """A mapping: keys are texts, and each is there once."""

    __slots__ = ("pairs",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.pairs: dict[str, tuple[Scalar, Node]] = {}

    def get(self, key: str) -> Node | None:
        return self.pairs[key][1] if key in self.pairs else None


def plain_value(node: Scalar) -> Any:
    """What a scalar means: None, a bool, an int (perhaps of more than 64 bits), a float (perhaps inf), or its text."""
    text = node.text
    if not node.plain:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.match(text):
        return int(text[:_DIGITS_MAX], 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.match(text):
        return float(text)
    return text


def compose(text: str) -> Node | None:
    """The document that a text is; None for an empty one.

    Raises:
        Rejected: it is no YAML, or has what the form does not; nothing else is ever raised.
    """
    return _Composer(text).compose()


class _Composer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in re.finditer(r"\r\n?|\n", text))]
        self.anchors: dict[str, Node | None] = {}  # None: not yet complete
        self.total = 0

    def compose(self) -> Node | None:
        if len(self.text) > TEXT_MAX:
            raise self.refused("SR102", f"the file has more than {TEXT_MAX} characters", Place(1, 0, 1, 0))
        try:
            return self.document()
        except yaml.MarkedYAMLError as error:
            ended = "end of stream" in str(error.problem)
            mark = (error.context_mark if ended else None) or error.problem_mark or error.context_mark
            place = self.place(mark, mark) if mark else Place(1, 0, 1, 0)
            what = " ".join(part for part in (error.context, error.problem) if part) or "it cannot be read"
        except yaml.reader.ReaderError as error:
            place = self.at(error.position)
            what = f"the character U+{ord(self.text[error.position]):04X} is not allowed"
        except (ValueError, OverflowError):
            place, what = Place(1, 0, 1, 0), "an escape stands for no character"
        raise self.refused("SR701", f"this is no YAML: {what}", place)

    def document(self) -> Node | None:
        root: Node | None = None
        open_nodes: list[Items | Pairs] = []
        keys: list[Scalar | None] = []  # of the open nodes: the key that waits for its value
        names: list[str | None] = []  # of the open nodes: their anchors
        for event in yaml.parse(self.text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self.refused("SR702", "a file is one rule, and this is a second document", self.place_of(event))
            if isinstance(event, yaml.CollectionEndEvent):
                node: Node = open_nodes.pop()
                keys.pop()
                name = names.pop()
            elif isinstance(event, yaml.NodeEvent):
                made = self.node(event)
                if isinstance(event, yaml.CollectionStartEvent):
                    assert isinstance(made, (Items, Pairs))
                    if len(open_nodes) >= DEPTH_MAX:
                        raise self.refused("SR102", f"the file is nested more than {DEPTH_MAX} levels deep", made.place)
                    if keys and isinstance(open_nodes[-1], Pairs) and keys[-1] is None:
                        raise self.refused("SR702", "a key is a text, not a list or a mapping", made.place)
                    open_nodes.append(made)
                    keys.append(None)
                    names.append(event.anchor)
                    if event.anchor:
                        self.anchors[event.anchor] = None
                    continue
                node = made
                name = event.anchor if isinstance(event, yaml.ScalarEvent) else None
            else:
                continue
            if name:
                self.anchors[name] = node
            if not open_nodes:
                root = node
            else:
                keys[-1] = self.put(open_nodes[-1], keys[-1], node)
        return root

    def node(self, event: Any) -> Node:
        """The node that an event begins, or stands for."""
        place = self.place_of(event)
        if isinstance(event, yaml.AliasEvent):
            name = event.anchor or ""
            found = self.anchors.get(name)
            if found is None:
                why = "lies inside what it names" if name in self.anchors else "is not defined before"
                raise self.refused("SR702", f"the alias *{name[:80]} {why}", place)
            self.count(found.size, place)
            return found
        self.count(1, place)
        tag = event.tag
        if tag is not None and not (isinstance(event, yaml.ScalarEvent) and tag in _TAGS.values()):
            raise self.refused("SR702", f"the tag {tag[:80]!r} is not part of the form", place)
        if isinstance(event, yaml.ScalarEvent):
            try:  # JSON writes some characters as two escapes, which PyYAML leaves apart
                text = event.value.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise self.refused("SR702", "half a surrogate pair is no text", place) from None
            return Scalar(place, text, event.style is None and tag is None)
        return Items(place) if isinstance(event, yaml.SequenceStartEvent) else Pairs(place)

    def count(self, nodes: int, place: Place) -> None:
        self.total += nodes
        if self.total > NODES_MAX:
            raise self.refused("SR102", f"the file has more than {NODES_MAX} values, with what aliases repeat", place)

    def put(self, parent: Items | Pairs, key: Scalar | None, node: Node) -> Scalar | None:
        """Add a complete node to the one that it is part of; returns the key that waits for its value from now on."""
        parent.size += node.size
        if isinstance(parent, Items):
            parent.items.append(node)
            return None
        if key is not None:
            parent.pairs[key.text] = key, node
            return None
        if not isinstance(node, Scalar):
            raise self.refused("SR702", "a key is a text, not a list or a mapping", node.place)
        if node.plain and node.text in ("<<", "", "~"):
            what = "merge keys are" if node.text == "<<" else "an empty key is"
            raise self.refused("SR702", f"{what} not part of the form", node.place)
        if node.text in parent.pairs:
            first = parent.pairs[node.text][0].place.line
            message = f"`{node.text[:80]}` stands here twice; the first is in line {first}"
            raise self.refused("SR310", message, node.place)
        return node

    # ---- places

    def place_of(self, event: Any) -> Place:
        return self.place(event.start_mark, event.end_mark)

    def place(self, start: Any, end: Any) -> Place:
        """From mark to mark; to the end of the first line where there are several, as what follows may be anything."""
        first, last = self.at(start.index), self.at(max(start.index, end.index))
        if first.line == last.line:
            return Place(first.line, first.column, first.line, max(last.column, first.column))
        return Place(first.line, first.column, first.line, first.column + 1)

    def at(self, index: int) -> Place:
        """PyYAML counts other characters as ends of lines too, so only its index is used."""
        line = bisect.bisect_right(self.starts, index)
        column = len(self.text[self.starts[line - 1] : index].encode("utf-8", "replace"))
        return Place(line, column, line, column)

    def refused(self, code: str, message: str, place: Place) -> Rejected:
        return Rejected([diagnostic(code, message, place)])


def diagnostic(code: str, message: str, place: Place, hint: str = "") -> Diagnostic:
    """A finding at a place of a document."""
    text = message if message.endswith((".", "?")) else f"{message}."
    return Diagnostic(
        code, text, place.line, place.column, place.end_line, place.end_column, hint or CODES[code].instead
    )


def comments(text: str) -> Iterator[tuple[int, int, int, str]]:
    """The comments of a document that can be read, as `ignores.Comment`."""
    composer = _Composer(text)
    inside: list[tuple[int, int]] = []  # what is no comment, whatever it looks like
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.ScalarToken):
                inside.append((token.start_mark.index, token.end_mark.index))
    except (yaml.YAMLError, ValueError, OverflowError):
        return
    for match in re.finditer(r"(?:^|(?<=\s))#[^\r\n]*", text, re.MULTILINE):
        at = bisect.bisect_right(inside, (match.start(), len(text)))
        if at == 0 or inside[at - 1][1] <= match.start():
            line = bisect.bisect_right(composer.starts, match.start())
            yield line, line, match.start() - composer.starts[line - 1], match[0]
