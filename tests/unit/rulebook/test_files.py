"""Rule files: which count, what belongs to their digest, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptrules.rulebook.files import SOURCE_MAX, digest_of, make_source, read_all


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_rule_is_named_by_its_path_without_suffix(tmp_path: Path) -> None:
    sources, problems = read_all(write(tmp_path / "rules", audit="1", billing__refund="2"))
    assert problems == []
    assert {name: (source.file, source.text) for name, source in sources.items()} == {
        "audit": ("rules/audit.py", "1"),
        "billing/refund": ("rules/billing/refund.py", "2"),
    }


def test_shared_code_hidden_files_and_other_files_are_no_rules(tmp_path: Path) -> None:
    folder = write(tmp_path / "rules", rule="", lib__money="", deep__lib__x="")
    for hidden in (".#rule.py", "_draft.py", "notes.txt", ".git/x.py", "__pycache__/x.py"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("x")
    assert set(read_all(folder)[0]) == {"rule", "deep/lib/x"}


def test_a_folder_that_is_not_there_has_no_rules(tmp_path: Path) -> None:
    assert read_all(tmp_path / "rules") == ({}, [])


def test_the_libraries_that_a_rule_mentions_belong_to_it_also_through_one_another() -> None:
    libraries = {"money": "from lib.rates import VAT", "rates": "from lib.money import x", "other": ""}
    source = make_source("r", "rules/r.py", "from lib.money import tax", libraries)
    assert source.libraries == {"money": libraries["money"], "rates": libraries["rates"]}
    assert make_source("r", "rules/r.py", "x = 1", libraries).libraries == {}


def test_an_edit_of_a_library_changes_the_digest_of_those_who_use_it_only() -> None:
    def digest(text: str, vat: str) -> str:
        return make_source("r", "rules/r.py", text, {"money": vat}).digest

    assert digest("from lib.money import VAT", "VAT = 19") != digest("from lib.money import VAT", "VAT = 20")
    assert digest("x = 1", "VAT = 19") == digest("x = 1", "VAT = 20")


def test_a_copy_of_a_file_is_another_rule() -> None:
    assert make_source("a", "rules/a.py", "x", {}).digest != make_source("b", "rules/b.py", "x", {}).digest


def test_a_digest_tells_apart_what_only_looks_the_same_when_put_together() -> None:
    digests = [
        digest_of("r", "ab", {}), digest_of("ra", "b", {}), digest_of("r", "a", {"b": ""}),
        digest_of("r", "a", {"": "b"}), digest_of("r", "", {"a": "b"}), digest_of("r", "", {"ab": ""}),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 32 for digest in digests)
    assert digest_of("r", "ab", {}) == digest_of("r", "ab", {})


def test_byte_order_marks_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    sources, _ = read_all(write(tmp_path / "rules", rule=b"\xef\xbb\xbfa = 1\r\nb = 2\r\n"))
    assert sources["rule"].text == "a = 1\nb = 2\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"x = '\xff'", "is not UTF-8 at byte 5. Save it as UTF-8."),
        (
            b"#" * (SOURCE_MAX + 1),
            "is larger than 256 KB. Put data into variables or files, and shared code into lib/.",
        ),
    ],
)
def test_a_file_that_cannot_be_a_rule_is_reported_and_harms_no_other(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    sources, problems = read_all(write(tmp_path / "rules", bad=content, good="", lib__worse=content))
    assert set(sources) == {"good"}
    assert {(one.rule, one.file, one.problem) for one in problems} == {
        ("bad", "rules/bad.py", problem),
        ("lib/worse", "rules/lib/worse.py", problem),
    }


def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "rules", good="")
    (folder / "gone.py").symlink_to(tmp_path / "nowhere")
    (one,) = read_all(folder)[1]
    assert (one.rule, one.problem) == (
        "gone",
        "cannot be read: No such file or directory. Make it readable for the server.",
    )
