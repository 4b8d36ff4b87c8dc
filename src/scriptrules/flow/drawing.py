"""The graph in the languages of programs that draw: Mermaid and Graphviz. Text is quoted, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scriptrules.flow.graph import PATTERN, RULE, Graph, GraphEdge
from scriptrules.flow.shapes import Certainty, Via

PLAIN = frozenset(" ._-/:,=!?()'*+·…")  # what stands in Mermaid as it is
LABEL_MAX = 60  # characters beside an arrow


def mermaid(graph: Graph) -> str:
    """A flowchart for Mermaid, as READMEs and wikis show it."""
    lines = ["flowchart LR"]
    ids = _ids(graph)
    for node in graph.nodes:
        left, right = ("[", "]") if node.kind == RULE else ("([", "])") if node.kind != PATTERN else ("{{", "}}")
        lines.append(f'  {ids[node.kind == RULE, node.id]}{left}"{_mermaid(node.id)}"{right}')
    for match in graph.matches:
        lines.append(f"  {ids[False, match.task]} --> {ids[True, match.rule]}")
    for edge in graph.edges:
        arrow = "==>" if edge.certainty == Certainty.CERTAIN else "-.->"
        label = f'|"{_mermaid(text)}"|' if (text := label_of(edge)) else ""
        lines.append(f"  {ids[True, edge.rule]} {arrow}{label} {ids[False, edge.task]}")
        lines += [f"  {ids[True, rule]} -.->|returns| {ids[True, edge.rule]}" for rule in _shown(edge.returns, ids)]
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """A directed graph for Graphviz: `scriptrules graph --format dot | dot -Tsvg`."""
    return "\n".join(["digraph rules {", "  rankdir=LR;", *(f"  {line}" for line in _dot(graph)), "}"]) + "\n"


def _dot(graph: Graph) -> Iterator[str]:
    ids = _ids(graph)
    for node in graph.nodes:
        shape = "box" if node.kind == RULE else "ellipse"
        style = ", style=dashed" if node.kind == PATTERN else ""
        yield f"{ids[node.kind == RULE, node.id]} [label={_quoted(node.id)}, shape={shape}{style}];"
    for match in graph.matches:
        yield f"{ids[False, match.task]} -> {ids[True, match.rule]};"
    for edge in graph.edges:
        style = "bold" if edge.certainty == Certainty.CERTAIN else "dashed"
        ends = f"{ids[True, edge.rule]} -> {ids[False, edge.task]}"
        yield f"{ends} [style={style}, label={_quoted(label_of(edge))}];"
        for rule in _shown(edge.returns, ids):
            yield f"{ids[True, rule]} -> {ids[True, edge.rule]} [style=dotted, label=returns];"


def _ids(graph: Graph) -> dict[tuple[bool, str], str]:
    """What nodes are called in a drawing, by whether they are rules and by name: a rule may be called like a task."""
    return {(node.kind == RULE, node.id): f"n{at}" for at, node in enumerate(graph.nodes)}


def _shown(rules: list[str], ids: Mapping[tuple[bool, str], str]) -> list[str]:
    return [rule for rule in rules if (True, rule) in ids]


def label_of(edge: GraphEdge) -> str:
    """What stands beside an arrow: how, if not by emit(), and when."""
    parts = ["" if edge.via == Via.EMIT else edge.via, edge.condition]
    text = " · ".join(part for part in parts if part)
    return text if len(text) <= LABEL_MAX else text[: LABEL_MAX - 1] + "…"


def _quoted(text: str) -> str:
    escaped = " ".join(text.split("\n")).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _mermaid(text: str) -> str:
    """Text in which Mermaid finds neither its own signs nor those of Markdown and HTML."""
    return "".join(one if one.isalnum() or one in PLAIN else f"#{ord(one)};" for one in text)
