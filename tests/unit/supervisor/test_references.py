"""Where secrets stand in arguments: nothing that data can be made of is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptrules.model import SecretRef
from scriptrules.sandbox.secret import Secret, mark
from scriptrules.supervisor.arguments import SecretText, WorkerLied
from scriptrules.supervisor.references import answer_to, fill_function, in_function, secrets_in

REF = SecretRef("token", 3)
JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$secret", "$$secret", "$", "a", "name", "version"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def filled(text: SecretText) -> str:
    return "".join(part if isinstance(part, str) else f"<{part.name} {part.version}>" for part in text.parts)


@given(JSON)
def test_data_is_never_a_secret_and_comes_back_as_it_was(value: object) -> None:
    marked = msgspec.json.decode(msgspec.json.encode({"value": mark(value, 64)}))
    assert in_function(marked, ["value"]) == []
    assert fill_function(marked, ["value"], filled) == {"value": value}


def test_a_secret_anywhere_in_an_accepting_parameter_is_filled_in() -> None:
    secret = "Bearer " + Secret((REF,)) + "!"
    given_ = {"headers": mark({"a": [secret], "$b": 1}, 64), "other": {"$secret": ["x"]}}
    marked = msgspec.json.decode(msgspec.json.encode(given_))
    assert secrets_in("fetch", msgspec.json.encode(marked), {"fetch": ["headers"]}) == {REF}
    assert fill_function(marked, ["headers"], filled) == {
        "headers": {"a": ["Bearer <token 3>!"], "$b": 1},
        "other": {"$secret": ["x"]},
    }


def test_a_mark_that_no_worker_makes_is_a_lie() -> None:
    for value in ({"$secret": 5}, {"$secret": [], "more": 1}, {"$secret": [{"name": "x"}]}):
        with pytest.raises(WorkerLied):
            in_function({"a": value}, ["a"])


def test_a_load_that_was_never_asked_is_a_lie() -> None:
    for answer in (None, (b'{"name":"other"}', msgspec.UNSET)):
        with pytest.raises(WorkerLied):
            answer_to(b'{"name":"x"}', answer)  # type: ignore[arg-type]
