"""What scripts may read of objects, and what guards say instead of doing what would explode."""

from __future__ import annotations

from typing import Any

import pytest

from rulehelp import BUILTINS, as_rule
from scriptrules.sandbox import signals
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.guards import Opaque


class Handle(Opaque):
    """An object of the host for these tests."""

    visible = frozenset({"name"})

    def __init__(self) -> None:
        self.name = "mid-mf"
        self.secret = "hidden"


class ExecutionBroke(Exception):
    visible = frozenset({"results"})

    def __init__(self) -> None:
        super().__init__("it broke")
        self.results = [1]
        self.secret = "hidden"


def rule(body: str, *args: Any) -> Any:
    parameters = ", ".join("abc"[: len(args)])
    return as_rule(f"def main({parameters}):\n    return {body}", *args)


def test_an_opaque_object_shows_what_it_lists() -> None:
    assert rule("a.name", Handle()) == "mid-mf"


@pytest.mark.parametrize("name", ["secret", "visible", "nothing"])
def test_an_opaque_object_shows_nothing_else(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'Handle' object has no attribute '{name}'"):
        rule(f"a.{name}", Handle())


@pytest.mark.parametrize(
    "body", ["a['x']", "a()", "a + a", "a < a", "len(a)", "[x for x in a]", "{**a}", "'{0.secret}'.format(a)"]
)
def test_an_opaque_object_can_do_nothing(body: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        rule(body, Handle())


def test_an_opaque_object_is_equal_to_itself_only_and_shows_no_address() -> None:
    assert rule("[a == a, a == b, str(a), f'{[a]}']", Handle(), Handle()) == [True, False, "<Handle>", "[<Handle>]"]


def test_an_exception_shows_its_arguments_and_what_its_class_lists() -> None:
    assert rule("[a.args, a.results, str(a)]", ExecutionBroke()) == [("it broke",), [1], "it broke"]
    for name in ("secret", "with_traceback", "add_note", "obj", "name"):
        with pytest.raises(AttributeError):
            rule(f"a.{name}", ExecutionBroke())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[].nope", AttributeError),
        ("''.nope()", AttributeError),
        ("1 + 'a'", TypeError),
        ("'a' * 'b'", TypeError),
        ("{}['k']", KeyError),
        ("[1][5]", IndexError),
        ("5[0]", TypeError),
        ("None.x", AttributeError),
        ("int('x')", ValueError),
        ("'%d' % 'x'", TypeError),
        ("'%s %s' % 'x'", TypeError),
        ("'%s' % (1, 2)", TypeError),
        ("'%(a)s' % 5", TypeError),
        ("'{}'.format()", IndexError),
        ("'{a}'.format()", KeyError),
        ("f'{[]:>5}'", TypeError),
        ("'abc'.encode('cp037')", LookupError),
        ("[x for x in 5]", TypeError),
        ("list(5)", TypeError),
        ("isinstance(1, 1)", TypeError),
        ("sum(['a'], '')", TypeError),
        ("{[]: 1}", TypeError),
        ("{[1]}", TypeError),
        ("undefined", NameError),
        ("1 // 0", ZeroDivisionError),
        ("1 << -1", ValueError),
        ("'a'.join([1])", TypeError),
        ("getattr(1, 2)", TypeError),
        ("getattr('', '__class__')", AttributeError),
        ("max()", TypeError),
        ("dict(1, 2)", TypeError),
    ],
)
def test_guards_raise_what_python_raises(body: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        rule(body)


@pytest.mark.parametrize(
    "body",
    [
        "'x' * 10 ** 9",
        "10 ** 9 * [0]",
        "10 ** 100000",
        "1 << 100000",
        "'%999999d' % 1",
        "f'{1:999999}'",
        "'x'.ljust(10 ** 9)",
        "bytes(10 ** 9)",
        "list(range(10 ** 9))",
        "'a'.join(['b' * 10 ** 6] * 100)",
        "('a' * 10 ** 6).replace('a', 'b' * 100)",
        "pow(3, 1 << 60000, 1 << 60001)",
        "round(5, -10 ** 9)",
    ],
)
def test_what_would_explode_ends_the_script_before_it_is_computed(body: str) -> None:
    with pytest.raises(signals.LimitExceeded) as caught:
        rule(body)
    assert caught.value.kind in ("memory", "steps")


def test_numbers_and_texts_of_ordinary_size_are_not_bounded() -> None:
    assert rule("[2 ** 10000 > 1, len('x' * 10 ** 6), 3 ** 5, (-2) ** 3, 2 ** -1, 1 << 1000 > 0]") == [
        True,
        10**6,
        243,
        -8,
        0.5,
        True,
    ]


def test_addresses_are_removed_from_texts_of_objects_but_not_from_the_authors_texts() -> None:
    assert rule("[str(a), '%s' % a, f'{a}', repr([a]), str('x at 0x12')]", Handle.__init__) == [
        "<function Handle.__init__>",
        "<function Handle.__init__>",
        "<function Handle.__init__>",
        "[<function Handle.__init__>]",
        "x at 0x12",
    ]


def test_a_dead_script_can_neither_handle_nor_tidy_up() -> None:
    done: list[str] = []
    scope = signals.Scope()
    source = """
def main(end, note):
    try:
        end()
    except ValueError:
        note("handled")
    finally:
        note("tidied")
"""

    def end() -> None:
        scope.dead = True
        raise ValueError

    with pytest.raises(signals.Ended):
        as_rule(source, end, done.append, scope=scope)
    assert done == []


@pytest.mark.parametrize("error", [signals.Ended(), signals.LimitExceeded("cpu", "x"), MemoryError(), RecursionError()])
def test_what_ends_a_run_passes_every_handler(error: BaseException) -> None:
    def end() -> None:
        raise error

    source = "def main(end):\n  try:\n    end()\n  except Exception:\n    return 1\n  finally:\n    end = 2"
    with pytest.raises(type(error)):
        as_rule(source, end)


def test_each_worker_gets_builtins_of_its_own() -> None:
    first, second = make_builtins(), make_builtins()
    first["injected"] = 1
    assert "injected" not in second


@pytest.mark.parametrize(
    "name",
    [
        "exec",
        "eval",
        "compile",
        "open",
        "input",
        "globals",
        "locals",
        "vars",
        "dir",
        "id",
        "hash",
        "object",
        "super",
        "setattr",
        "delattr",
        "memoryview",
        "BaseException",
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "MemoryError",
        "RecursionError",
        "breakpoint",
        "classmethod",
        "property",
    ],
)
def test_what_leads_out_of_the_sandbox_is_not_offered(name: str) -> None:
    assert name not in BUILTINS


def test_print_writes_to_the_scope() -> None:
    class Writing(signals.Scope):
        def write(self, text: str) -> None:
            written.append(text)

    written: list[str] = []
    as_rule("def main():\n    print('a', [1], sep='-')\n    print()", scope=Writing())
    assert written == ["a-[1]\n", "\n"]


def test_a_library_is_imported_through_the_scope() -> None:
    class Library(signals.Scope):
        def library(self, name: str) -> object:
            return {"f": lambda: name, "_hidden": 1}

    source = "from lib.prices import f\nfrom lib import taxes\ndef main():\n    return [f(), taxes.f()]"
    assert as_rule(source, scope=Library()) == ["prices", "taxes"]
    with pytest.raises(ImportError):
        as_rule("from lib.prices import g\ndef main():\n    pass", scope=Library())
    with pytest.raises(ImportError):
        as_rule("from lib.prices import f\ndef main():\n    pass")
