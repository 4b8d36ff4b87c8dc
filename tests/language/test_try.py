"""try."""

from __future__ import annotations

from languagehelp import Row, check, each, refused, rewritten

NODES = (
    "Try",
    "ExceptHandler",
    "TryStar",
)
ROWS = [
    rewritten(
        "try",
        """
        r = []
        for f in [lambda: 1 / 0, lambda: {}["k"], lambda: int("x"), lambda: [][1], lambda: None.x, lambda: 1]:
            try:
                v = f()
            except ZeroDivisionError:
                r.append("zero")
            except (KeyError, IndexError) as e:
                r.append([type(e) == KeyError, e.args])
            except Exception as e:
                r.append(str(e))
            else:
                r.append(v)
            finally:
                r.append("f")
        return r
        """,
    ),
    rewritten(
        "return through finally",
        """
        r = []
        def f():
            try:
                return 1
            finally:
                r.append(2)
        return [f(), r]
        """,
    ),
    rewritten(
        "loop in finally",
        """
        r = []
        try:
            pass
        finally:
            for i in range(5):
                if i == 1:
                    continue
                if i == 3:
                    break
                r.append(i)
        return r
        """,
    ),
    rewritten(
        "except without parentheses",
        """
        try:
            1 / 0
        except KeyError, ZeroDivisionError:
            return 1
        """,
        since=(3, 14),
    ),
    rewritten(
        "errors of codecs",
        r"""
        try:
            b'\xff'.decode()
        except (UnicodeDecodeError, KeyError) as e:
            return [str(e), isinstance(e, UnicodeDecodeError), type(e) == UnicodeDecodeError]
        """,
    ),
    refused(
        "SR109",
        "a bare except",
        """
        try:
            pass
        except:
            pass
        """,
    ),
    refused(
        "SR115",
        "except BaseException",
        """
        try:
            pass
        except BaseException:
            pass
        """,
    ),
    refused(
        "SR115",
        "among several",
        """
        try:
            pass
        except (KeyError, SystemExit):
            pass
        """,
    ),
    refused(
        "SR113",
        "a computed exception",
        """
        try:
            pass
        except f():
            pass
        """,
    ),
    refused(
        "SR113",
        "an exception by its module",
        """
        try:
            pass
        except a.b:
            pass
        """,
        "import its name",
    ),
    refused(
        "SR110",
        "return out of finally",
        """
        def f():
            try:
                pass
            finally:
                return 1
        """,
    ),
    refused(
        "SR110",
        "break out of finally",
        """
        for x in y:
            try:
                pass
            finally:
                break
        """,
    ),
    refused(
        "SR110",
        "continue out of finally",
        """
        for x in y:
            try:
                pass
            finally:
                if x:
                    continue
        """,
    ),
    refused(
        "SR110",
        "break in the else of a loop in finally",
        """
        for x in y:
          try:
            pass
          finally:
            for z in y:
              pass
            else:
              break
        """,
    ),
    refused(
        "SR103",
        "except*",
        """
        try:
            pass
        except* ValueError:
            pass
        """,
    ),
]


@each(ROWS)
def test_try_is_as_the_table_says(row: Row) -> None:
    check(row)
