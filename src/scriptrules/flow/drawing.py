"""The graph in the languages of programs that draw: Mermaid and Graphviz. Text is quoted, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator

from scriptrules.flow.graph import PATTERN, RULE, Graph, GraphEdge
from scriptrules.flow.shapes import Certainty, Via

LABEL_MAX = 60  # characters beside an arrow


def mermaid(graph: Graph) -> str:
    """A flowchart for Mermaid, as READMEs and wikis show it."""
    names = {node.id: f"n{at}" for at, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node in graph.nodes:
        left, right = ("[", "]") if node.kind == RULE else ("([", "])") if node.kind != PATTERN else ("{{", "}}")
        lines.append(f'  {names[node.id]}{left}"{_mermaid(node.id)}"{right}')
    for match in graph.matches:
        lines.append(f"  {names[match.task]} --> {names[match.rule]}")
    for edge in graph.edges:
        arrow = "==>" if edge.certainty == Certainty.CERTAIN else "-.->"
        label = f'|"{_mermaid(text)}"|' if (text := label_of(edge)) else ""
        lines.append(f"  {names[edge.rule]} {arrow}{label} {names[edge.task]}")
        lines += [f"  {names[rule]} -.->|returns| {names[edge.rule]}" for rule in edge.returns if rule in names]
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """A directed graph for Graphviz: `scriptrules graph --format dot | dot -Tsvg`."""
    return "\n".join(["digraph rules {", "  rankdir=LR;", *(f"  {line}" for line in _dot(graph)), "}"]) + "\n"


def _dot(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        shape = "box" if node.kind == RULE else "ellipse"
        style = ", style=dashed" if node.kind == PATTERN else ""
        yield f"{_quoted(node.id)} [shape={shape}{style}];"
    for match in graph.matches:
        yield f"{_quoted(match.task)} -> {_quoted(match.rule)};"
    for edge in graph.edges:
        style = "bold" if edge.certainty == Certainty.CERTAIN else "dashed"
        yield f"{_quoted(edge.rule)} -> {_quoted(edge.task)} [style={style}, label={_quoted(label_of(edge))}];"
        for rule in edge.returns:
            yield f"{_quoted(rule)} -> {_quoted(edge.rule)} [style=dotted, label=returns];"


def label_of(edge: GraphEdge) -> str:
    """What stands beside an arrow: how, if not by emit(), and when."""
    parts = ["" if edge.via == Via.EMIT else edge.via, edge.condition]
    text = " · ".join(part for part in parts if part)
    return text if len(text) <= LABEL_MAX else text[: LABEL_MAX - 1] + "…"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _mermaid(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("#", "#35;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text
