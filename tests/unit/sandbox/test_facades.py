"""The pure modules give what the real ones give, and nothing that leads out of them."""

from __future__ import annotations

import textwrap
from types import ModuleType

import pytest

from rulehelp import as_python, as_rule
from scriptrules.sandbox.facades import MODULES
from scriptrules.sandbox.guards import Namespace, TypeFacade

SAME = {
    "math": """
        import math
        return [
            math.sqrt(2),
            math.pi,
            math.factorial(10),
            math.comb(10, 3),
            math.comb(10**5, 10**5 - 1),
            math.prod([2, 3]),
            math.gcd(12, 18),
            math.fsum([0.1] * 10),
            math.ceil(1.2),
            math.isnan(math.nan),
            math.dist([0, 0], [3, 4]),
        ]
        """,
    "json": """
        import json
        return [
            json.loads('{"a": [1, null]}'),
            json.dumps({"b": (1, 2.5, None), "a": "ü"}, sort_keys=True, indent=1),
            json.dumps([1], separators=(",", ":")),
        ]
        """,
    "json error": """
        import json
        from json import JSONDecodeError
        try:
            json.loads("{")
        except JSONDecodeError as e:
            return str(e)
        """,
    "re": r"""
        import re
        m = re.search(r"(?P<y>\d+)-(\d+)", "on 2024-05")
        return [
            m.group("y"),
            m[2],
            m.groups(),
            m.groupdict(),
            m.span(),
            re.findall("a(b)?", "ab a"),
            re.sub("(a)", r"<\1>", "banana", count=2),
            re.sub("a", lambda m: m[0].upper(), "banana"),
            re.split(",", "a,b,c", maxsplit=1),
            re.compile("X", re.I).match("x") is not None,
            [m.start() for m in re.finditer("a", "banana")],
            re.subn("a", "b", "aa"),
        ]
        """,
    "re flags": r"""
        import re
        return [
            re.findall("^a", "a\nA", re.M | re.I),
            re.sub("A", "b", "aa", count=1, flags=re.I),
            re.fullmatch("a.b", "a\nb", flags=re.DOTALL) is not None,
            re.escape("a.b"),
        ]
        """,
    "datetime": """
        from datetime import datetime, timedelta, date, timezone, UTC
        d = datetime(2024, 2, 28, 12, tzinfo=UTC) + timedelta(days=2, hours=1.5)
        return [
            d.isoformat(),
            d.weekday(),
            d.strftime("%Y/%m/%d %H:%M"),
            (date(2024, 3, 1) - date(2024, 2, 1)).days,
            str(datetime.strptime("2024-05-06", "%Y-%m-%d")),
            datetime.fromisoformat("2024-01-01T00:00:00+02:00").astimezone(timezone.utc).hour,
            d.timestamp(),
            d > datetime(2020, 1, 1, tzinfo=UTC),
            f"{d:%d.%m.}",
            d.replace(year=2000).year,
            timedelta(minutes=90).total_seconds(),
            isinstance(d, date),
        ]
        """,
    "itertools": """
        from itertools import (
            chain,
            count,
            islice,
            groupby,
            product,
            accumulate,
            zip_longest,
            pairwise,
            takewhile,
            cycle,
            repeat,
            combinations,
            permutations,
            starmap,
        )
        return [
            list(chain([1], "a")),
            list(chain.from_iterable(["ab", "c"])),
            list(islice(count(2, 3), 3)),
            [(k, list(g)) for k, g in groupby("aabc")],
            list(product("ab", repeat=2)),
            list(accumulate([1, 2, 3])),
            list(zip_longest("ab", "c", fillvalue="-")),
            list(pairwise([1, 2, 3])),
            list(takewhile(lambda x: x < 3, count())),
            list(islice(cycle("ab"), 3)),
            list(repeat(1, 2)),
            list(combinations("abc", 2)),
            len(list(permutations("abc"))),
            list(starmap(pow, [(2, 3)])),
        ]
        """,
    "functools": """
        from functools import reduce, partial, cmp_to_key, wraps
        return [
            reduce(lambda a, b: a * b, [1, 2, 3], 1),
            partial(pow, 2)(5),
            sorted([3, 1, 2], key=cmp_to_key(lambda a, b: b - a)),
        ]
        """,
    "collections": """
        from collections import Counter, defaultdict, OrderedDict, deque
        c = Counter("banana")
        c.update("nn")
        d = defaultdict(list)
        d["a"].append(1)
        d["b"] += [2]
        q = deque([1, 2], maxlen=3)
        q.append(3)
        q.appendleft(0)
        n = defaultdict(int)
        n["x"] += 1
        return [
            c.most_common(2),
            str(c),
            dict(d),
            str(d),
            list(q),
            str(q),
            q.popleft(),
            OrderedDict(a=1),
            dict(n),
            sorted((c + Counter("b")).items()),
            c["zz"],
        ]
        """,
    "statistics": """
        import statistics as s
        return [
            s.mean([1, 2, 3, 4]),
            s.median([3, 1, 2]),
            s.stdev([1, 2, 3]),
            s.mode("aab"),
            s.quantiles([1, 2, 3, 4], n=2),
        ]
        """,
    "decimal": """
        from decimal import Decimal, ROUND_HALF_UP
        d = Decimal("2.675")
        return [
            str(d.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)),
            str(d * 3),
            str(Decimal(1) / 3),
            d > 2,
            int(d),
            round(d, 1) == Decimal("2.7"),
            f"{d:.1f}",
            str(d**2),
        ]
        """,
    "fractions": """
        from fractions import Fraction
        f = Fraction(1, 3) + Fraction("1/6")
        return [str(f), f.numerator, f * 2 == 1, float(f), str(f**3), str(2 * f)]
        """,
    "textwrap": r"""
        import textwrap
        return [
            textwrap.dedent("  a\n  b"),
            textwrap.fill("aaa bbb ccc", 7),
            textwrap.indent("a\nb", "> "),
            textwrap.shorten("hello big world", 12, placeholder="…"),
            textwrap.wrap("a b c", 3),
        ]
        """,
    "urllib": """
        import urllib.parse
        from urllib.parse import urlsplit, urlencode, parse_qs
        u = urlsplit("https://u:p@host:81/p/a?q=1#f")
        return [
            urllib.parse.quote("a b/ü"),
            u.hostname,
            u.port,
            u.path,
            u.query,
            urlencode({"a": 1, "b": "x y"}),
            urlencode([("k", [1, 2])], doseq=True),
            parse_qs("a=1&a=2"),
            urllib.parse.urljoin("http://a/b/", "c"),
            u.geturl(),
        ]
        """,
    "hashlib": """
        import hashlib
        h = hashlib.sha256(b"a")
        h.update(b"b")
        return [h.hexdigest(), hashlib.md5(b"").hexdigest(), hashlib.blake2b(b"x").hexdigest()[:8]]
        """,
    "base64": r"""
        import base64
        return [base64.b64encode(b"ab"), base64.b64decode("YWI="), base64.urlsafe_b64encode(b"\xff\xfe")]
        """,
    "string": """
        import string
        return [string.ascii_lowercase, string.digits, string.capwords("a b")]
        """,
    "copy": """
        import copy
        a = [[1], (2, [3])]
        b = copy.deepcopy(a)
        c = copy.copy(a)
        a[0].append(9)
        a[1][1].append(8)
        return [a, b, c]
        """,
    "operator": """
        import operator as o
        return [
            o.add(1, 2),
            o.mul(2, 3),
            o.itemgetter("a")({"a": 1}),
            sorted([(1, 2), (0, 5)], key=o.itemgetter(1, 0)),
            o.contains([1], 1),
            o.truth([]),
        ]
        """,
    "heapq and bisect": """
        import heapq, bisect
        h = [3, 1, 2]
        heapq.heapify(h)
        heapq.heappush(h, 0)
        return [
            heapq.heappop(h),
            heapq.nlargest(2, [1, 5, 3]),
            bisect.bisect([1, 3], 2),
            list(heapq.merge([1, 4], [2])),
        ]
        """,
    "html and shlex": """
        import html, shlex
        return [html.escape("<a>"), shlex.split('a "b c"'), shlex.quote("a b"), shlex.join(["a", "b c"])]
        """,
    "typing": """
        from typing import Optional, Any, cast
        X = Optional[dict[str, Any]]
        return cast(X, 5)
        """,
}


def _main(body: str) -> str:
    return "def main():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")


@pytest.mark.parametrize("name", SAME)
def test_a_facade_gives_what_the_module_gives(name: str) -> None:
    source = _main(SAME[name])
    assert as_rule(source) == as_python(source)


def test_no_facade_holds_a_module_or_anything_private() -> None:
    for module in MODULES.values():
        for name, member in module.members.items():
            assert not name.startswith("_")
            assert not isinstance(member, ModuleType)
            if isinstance(member, type):
                assert issubclass(member, Exception), f"{module.name}.{name} is a real class"


def test_members_are_plain_data_or_guarded() -> None:
    allowed = (str, int, float, Namespace, TypeFacade)
    for module in MODULES.values():
        for name, member in module.members.items():
            assert callable(member) or isinstance(member, allowed) or module.name in ("datetime", "typing"), name


@pytest.mark.parametrize("call", ["datetime.datetime.now()", "datetime.date.today()", "datetime.datetime.utcnow()"])
def test_the_clock_is_not_offered_and_the_error_says_what_is(call: str) -> None:
    with pytest.raises(AttributeError, match=r"now\(\)"):
        as_rule(_main(f"import datetime\nreturn {call}"))


def test_naive_moments_are_in_utc_whatever_the_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        body = """
            from datetime import datetime as d
            return [d(1970, 1, 2).timestamp(), d.fromtimestamp(0).hour, d(2024, 1, 1).astimezone().isoformat()]
            """
        assert as_rule(_main(body)) == [86400.0, 0, "2024-01-01T00:00:00+00:00"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("expression", ["math.x", "math.members", "json.decoder", "json.codecs", "re.enum"])
def test_a_facade_has_its_members_and_no_others(expression: str) -> None:
    with pytest.raises(AttributeError):
        as_rule(_main(f"import math, json, re\nreturn {expression}"))
