"""Our own hostile scripts, by what they try.

Each must end as `expect` or one of `also_ok` says: "rejected_at_load", "error_at_run", "killed_by_limit" or "harmless".
A script that reaches its goal emits "PWNED" or returns a text that begins with it. `then` is an honest script that the
same worker executes afterwards ("same": the same one); `stable` ones must do the same in two processes with different
hash seeds; `cancel` ones are cancelled where they wait for "cancel".
"""

from __future__ import annotations

import textwrap
from typing import Any

CORPUS: list[dict[str, Any]] = []

LOAD, RUN, KILL, FINE = "rejected_at_load", "error_at_run", "killed_by_limit", "harmless"


def script(name: str, expect: str, source: str, *also_ok: str, **options: Any) -> None:
    category = name.split(".", maxsplit=1)[0]
    text = textwrap.dedent(source).strip() + "\n"
    CORPUS.append({"id": name, "category": category, "expect": expect, "also_ok": also_ok, "source": text, **options})


def body(name: str, expect: str, source: str, *also_ok: str, **options: Any) -> None:
    """A script that is only the body of main()."""
    indented = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    script(name, expect, f"def main(**kw):\n{indented}", *also_ok, **options)


# -- walks over attributes
body("attr.dunder-of-literal", LOAD, "return ().__class__.__base__.__subclasses__()")
body("attr.globals-of-helper", LOAD, "return wait.__globals__")
body("attr.closure-of-lambda", LOAD, "return (lambda: kw).__closure__[0].cell_contents")
body("attr.code-of-main", LOAD, "return main.__code__.co_consts")
body("attr.defaults", LOAD, "main.__kwdefaults__ = {}")
body("attr.secret-of-context", RUN, 'return "PWNED" + kw["ctx"].secret')
body("attr.getattr-dunder", RUN, 'return "PWNED %r" % getattr((), "__class__")')
body("attr.getattr-default", FINE, 'return "PWNED" if getattr((), "__class__", None) else "no"')
body("attr.getattr-built-name", RUN, 'return "PWNED %r" % getattr("", "_" * 2 + "doc" + "_" * 2)')
body("attr.hasattr-probe", FINE, 'return "PWNED" if hasattr(main, "__globals__") or hasattr(run, "__code__") else "no"')
body("attr.getattr-on-secret", RUN, 'return "PWNED" + getattr(kw["ctx"], "secret")')
body("attr.map-getattr", RUN, 'return "PWNED %r" % list(map(getattr, [main], ["__globals__"]))')
body(
    "attr.reduce-getattr",
    RUN,
    """
    import functools
    return "PWNED %r" % functools.reduce(getattr, ["__class__", "__mro__"], ())
    """,
)
body(
    "attr.partial-func",
    RUN,
    """
    from functools import partial
    return "PWNED %r" % partial(len, []).func
    """,
)
body("attr.bound-method-self", RUN, 'j = ",".join\nreturn "PWNED %r" % j.func')
body("attr.cmp-key-obj", RUN, "from functools import cmp_to_key\nreturn 'PWNED %r' % cmp_to_key(max)(1).obj")
body("attr.exception-class-mro", RUN, 'return "PWNED %r" % type(ValueError("x")).mro()')
body("attr.exception-notes", RUN, 'ValueError("x").add_note("y")\nreturn "PWNED"')
body("attr.exception-context", LOAD, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    return e.__context__")
body(
    "attr.key-error-object",
    FINE,
    """
    try:
        {}[main]
    except KeyError as e:
        return "PWNED" if callable(e.args[0]) else "no"
    """,
)
body("attr.namespace-members", RUN, "import math\nreturn 'PWNED %r' % math.members")
body("attr.type-facade-real", RUN, 'return "PWNED %r" % list.make')
body("attr.type-of-type", RUN, 'return "PWNED %r" % type(type(1)).real')
body(
    "attr.match-class-attributes",
    LOAD,
    """
    match kw["ctx"]:
        case Context(secret=s):
            return "PWNED" + s
    """,
)
body("attr.match-str-keyword", LOAD, 'match "a":\n    case str(__class__=c):\n        return c')
body("attr.match-value-walk", LOAD, 'match 1:\n    case kw.__class__:\n        return "PWNED"')
body(
    "attr.match-value-secret",
    RUN,
    """
    ctx = kw["ctx"]
    match "CANARY-of-the-host":
        case ctx.secret:
            return "PWNED"
    """,
)
body(
    "attr.match-shadowed-class",
    FINE,
    """
    str = lambda x: True
    match 5:
        case str():
            return "PWNED"
    return "no"
    """,
)
body("attr.walrus-guard", LOAD, "(_getattr_ := lambda o, n: n)\nreturn kw.get")
body("attr.star-target-guard", LOAD, "a, *_star_ = [1, 2]\nreturn a")
body("attr.import-as-guard", LOAD, "import math as _import_\nreturn 1")
body("attr.match-capture-guard", LOAD, "match 1:\n    case _fuel_:\n        return 1")
body("attr.match-rest-guard", LOAD, "match kw:\n    case {**_loop_}:\n        return 1")
body("attr.nonlocal-guard", LOAD, "def f():\n    nonlocal _fuel_\n    _fuel_ = 1\nreturn f()")
body("attr.keyword-guard", LOAD, "return dict(_getattr_=1)")
body("attr.temporary-name", LOAD, "_tmp0 = 1\nreturn _tmp0")
body("attr.lib-private", RUN, "from lib.secret import f\nreturn 'PWNED'")
body("attr.facade-private", LOAD, "from json import _default_decoder\nreturn 1")

# -- text that walks or leaks
body("format.walk", RUN, 'return "PWNED " + "{0.__class__}".format(1)')
body("format.walk-map", RUN, 'return "PWNED " + "{a.__class__}".format_map({"a": 1})')
body("format.secret", RUN, 'return "PWNED " + "{ctx.secret}".format(**kw)')
body("format.nested-field", RUN, 'return "PWNED " + "{:{0.__class__}}".format(1)')
body("format.unbound", RUN, 'return "PWNED " + str.format("{0.__doc__}", main)')
body("format.map-unbound", RUN, 'return "PWNED %s" % list(map(str.format, ["{0.__doc__}"], [main]))')
body("format.width", KILL, 'return len(f"{1:>{10 ** 9}}")', RUN)
body("format.width-method", KILL, 'return len("{:>1000000000}".format(1))', RUN)
body("format.precision", KILL, 'return len(format(1.5, ".999999999f"))', RUN)
body("format.percent-width", KILL, 'return len("%-999999999s" % "x")', RUN)
body("format.doubling", KILL, 's = "x" * 1000\nfor i in range(60):\n    s = f"{s}{s}"\nreturn len(s)', RUN)
body("format.template-doubling", KILL, 's = "x" * 1000\nfor i in range(60):\n    s = "{0}{0}".format(s)\nreturn len(s)')
body("format.percent-doubling", KILL, 's = "x" * 1000\nfor i in range(60):\n    s = "%s%s" % (s, s)\nreturn len(s)')
body("format.decimal-fixed", KILL, 'from decimal import Decimal\nreturn len(format(Decimal("1e999999"), "f"))', RUN)
body("format.repr-of-tangle", KILL, "a = []\nfor i in range(60):\n    a = [a, a]\nreturn len(repr(a))")
body("format.error-of-tangle", KILL, "a = []\nfor i in range(60):\n    a = [a, a]\nreturn len(str(ValueError(a)))")
body("format.index-error-of-tangle", RUN, "a = []\nfor i in range(60):\n    a = [a, a]\nreturn [].index(a)", FINE)
body("format.values-of-tangle", KILL, "a = []\nfor i in range(60):\n    a = [a, a]\nreturn len(str({1: a}.values()))")
body(
    "format.query-of-tangle",
    KILL,
    """
    from urllib.parse import urlencode
    a = []
    for i in range(60):
        a = [a, a]
    return len(urlencode({"a": a}))
    """,
)
body(
    "format.json-of-tangle", KILL, "import json\na = []\nfor i in range(60):\n    a = [a, a]\nreturn len(json.dumps(a))"
)

# -- frames and generators
body("frames.generator-frame", LOAD, "return (x for x in [1]).gi_frame")
body("frames.traceback", LOAD, "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__.tb_frame")
body("frames.tb-frame-name", LOAD, "return kw.tb_frame")
script("frames.yield-from", LOAD, "def g():\n    yield from []\ndef main(**kw):\n    return g()")
script("frames.async-for", LOAD, "async def main(**kw):\n    async for x in kw:\n        pass")
body("frames.generator-send", RUN, "g = (x for x in [1])\ng.send(None)\nreturn 'PWNED'")
body("frames.generator-close", RUN, "g = (x for x in [1])\ng.close()\nreturn 'PWNED'")
body("frames.effects-in-generator", LOAD, 'return list(run("light.on") for i in [1])')
body("frames.effects-in-nested-generator", LOAD, 'return list([emit("x") for i in [1]] for j in [1])')

# -- swallowing what ends a run
CANCEL = {"cancel": True}
script(
    "swallow.exception-loop",
    RUN,
    """
    def main(**kw):
        while True:
            try:
                wait("cancel")
            except Exception:
                emit("PWNED")
    """,
    cancel=True,
)
body("swallow.finally-return", LOAD, 'try:\n    wait("cancel")\nfinally:\n    return "PWNED"', **CANCEL)
body(
    "swallow.finally-break",
    LOAD,
    """
    while True:
        try:
            wait("cancel")
        finally:
            break
    emit("PWNED")
    """,
    **CANCEL,
)
body(
    "swallow.finally-nested-loop",
    RUN,
    """
    try:
        wait("cancel")
    finally:
        for i in [1]:
            if i:
                break
        emit("PWNED")
    """,
    **CANCEL,
)
body(
    "swallow.finally-in-handler",
    RUN,
    """
    try:
        wait("cancel")
    except ValueError:
        pass
    else:
        emit("PWNED")
    finally:
        try:
            emit("PWNED")
        except Exception:
            emit("PWNED")
    """,
    **CANCEL,
)
body(
    "swallow.computed-handler",
    LOAD,
    'try:\n    wait("cancel")\nexcept (lambda: Exception)():\n    emit("PWNED")',
    **CANCEL,
)
body("swallow.handler-variable", RUN, 'E = Exception\ntry:\n    wait("cancel")\nexcept E:\n    emit("PWNED")', **CANCEL)
body("swallow.handler-not-a-class", RUN, "E = 5\ntry:\n    1 / 0\nexcept E:\n    return 'PWNED'")
body("swallow.handler-facade", RUN, "try:\n    1 / 0\nexcept int:\n    return 'PWNED'")
body(
    "swallow.in-sort-key",
    RUN,
    """
    def key(x):
        try:
            wait("cancel")
        except Exception:
            emit("PWNED")
        return x
    return sorted([2, 1], key=key)
    """,
    **CANCEL,
)
body(
    "swallow.in-substitution",
    RUN,
    """
    import re
    return re.sub("a", lambda m: wait("cancel") or "PWNED", "aaa")
    """,
    **CANCEL,
)
body("swallow.next-default", RUN, 'return next(map(wait, ["cancel"]), "PWNED")', **CANCEL)
body("swallow.hasattr", RUN, 'return "PWNED" if hasattr(wait("cancel"), "x") else "PWNED"', **CANCEL)
body(
    "swallow.memory-error",
    KILL,
    """
    kept = []
    while True:
        try:
            kept.append("x" * 15000000)
        except Exception:
            return "PWNED"
    """,
)
body(
    "swallow.recursion-finally",
    KILL,
    """
    def f(n):
        try:
            f(n + 1)
        finally:
            return_early = n
            f(n + 1)
    f(0)
    """,
)
body("swallow.recursion-lambda", KILL, "f = lambda f, n: f(f, n - 1) or f(f, n - 1) if n else 0\nreturn f(f, 60)")
body(
    "swallow.steps-in-handler",
    KILL,
    """
    try:
        while True:
            pass
    except Exception:
        return "PWNED"
    finally:
        emit("PWNED")
    """,
)
body("swallow.name-memory-error", LOAD, "try:\n    pass\nexcept MemoryError:\n    return 1")
body("swallow.name-exception-group", LOAD, "raise ExceptionGroup('a', [ValueError()])")
body("swallow.except-star", LOAD, "try:\n    pass\nexcept* ValueError:\n    pass")

# -- classes and types
script("class.plain", LOAD, "class A:\n    pass\ndef main(**kw):\n    return 1")
body("class.three-argument-type", RUN, 'return "PWNED %r" % type("A", (), {})')
body("class.namedtuple", LOAD, "from collections import namedtuple\nreturn 1")
body("class.enum", LOAD, "import enum\nreturn 1")
body("class.instance-by-type", RUN, 'return "PWNED %r" % type(kw["ctx"])()')
body("class.opaque-write", LOAD, 'kw["ctx"].name = "PWNED"')
body("class.opaque-augmented", LOAD, 'kw["ctx"].name += "PWNED"')
body("class.opaque-loop-target", LOAD, 'for kw["ctx"].name in ["PWNED"]:\n    pass')
body("class.opaque-unpack", LOAD, 'a, kw["ctx"].name = 1, 2')
body("class.opaque-delete", LOAD, 'del kw["ctx"].name')
body("class.decorated-by-facade", RUN, "@list\ndef f():\n    pass\nreturn f")
body(
    "class.copy-of-host-object",
    FINE,
    """
    import copy
    return "PWNED" if copy.deepcopy(kw["ctx"]) != kw["ctx"] else "no"
    """,
)

# -- imports
for module in (
    "os",
    "sys",
    "time",
    "random",
    "subprocess",
    "builtins",
    "importlib",
    "ctypes",
    "gc",
    "inspect",
    "pickle",
):
    body(f"import.{module}", LOAD, f"import {module}\nreturn 'PWNED'")
body("import.submodule", LOAD, "import json.decoder\nreturn 'PWNED'")
body("import.lib-module", LOAD, "import lib.x\nreturn 'PWNED'")
body("import.dotted-lib", LOAD, "from lib.x.y import z\nreturn 'PWNED'")
body("import.through-facade", RUN, "import json\nreturn 'PWNED %r' % json.codecs")
body("import.hook", LOAD, "return __import__('os')")
body("import.now", RUN, "import datetime\nreturn 'PWNED %s' % datetime.datetime.now()")
body("import.today", RUN, "from datetime import date\nreturn 'PWNED %s' % date.today()")
body("import.now-unbound", RUN, 'import datetime\nreturn "PWNED %s" % getattr(datetime.datetime, "utcnow")()')
body("import.formatter", RUN, "import string\nreturn 'PWNED %r' % string.Formatter")
body("import.decimal-context", LOAD, "from decimal import getcontext\ngetcontext().prec = 5\nreturn 'PWNED'")
body("import.cache", RUN, "import functools\nreturn 'PWNED %r' % functools.lru_cache")

# -- what one run leaves for the next
PROBE = "def main(**kw):\n    import {0}\n    return 'PWNED' if {1} else 'ok'\n"
body("leak.module-member", LOAD, "import math\nmath.pi = 3\nreturn 1", then=PROBE.format("math", "math.pi == 3"))
body("leak.module-item", RUN, 'import math\nmath["pi"] = 3\nreturn 1', then=PROBE.format("math", "math.pi == 3"))
body(
    "leak.flags",
    FINE,
    """
    import re
    re.compile("x", re.I)
    return 1
    """,
    then=PROBE.format("re", "re.match('X', 'x')"),
)
body(
    "leak.shadow-builtin", FINE, 'len = lambda x: "PWNED"\nreturn 1', RUN, then="def main(**kw):\n    return len([])\n"
)
script(
    "leak.module-list",
    FINE,
    """
    kept = {"n": 0}
    def main(**kw):
        kept["n"] += 1
        return "PWNED" if kept["n"] > 1 else "ok"
    """,
    then="same",
)
script(
    "leak.default-set",
    FINE,
    """
    def main(seen=set(), **kw):
        seen.add(len(seen))
        return "PWNED" if len(seen) > 1 else "ok"
    """,
    then="same",
)
body(
    "leak.event",
    FINE,
    'kw["event"]["tags"] += ["PWNED"]\nreturn 1',
    then="def main(event, **kw):\n    return event['tags'][-1]\n",
)
body("leak.builtins-update", LOAD, "return __builtins__.update(len=1)")
body("leak.constant-list", FINE, "xs = [1, 2]\nxs.append(3)\nreturn 'PWNED' if len(xs) > 3 else 'ok'", then="same")

# -- resources
BOMBS = {
    "augmented-multiply": "s = [0]\nwhile True:\n    s *= 2",
    "augmented-item": "d = {'a': [0]}\nwhile True:\n    d['a'] += d['a']",
    "augmented-power": "n = 3\nwhile True:\n    n **= 3",
    "augmented-shift": "n = 1\nwhile True:\n    n <<= 99999",
    "augmented-slice": "a = [0]\nwhile True:\n    a[0:0] += a",
    "loop-target-slice": "a = [0]\nfor a[0:0] in [a] * 60:\n    pass\nreturn len(a)",
    "slice-as-key": "d = {}\nd[0:0] = 1\nk = list(d)[0]\na = [0]\nwhile True:\n    a[k] = a",
    "slice-as-missing-key": "import collections\nd = collections.defaultdict(int)\nd[0:0]\nk = list(d)[0]\nreturn 1",
    "add-endless": "from itertools import count\na = []\na += count()",
    "add-range": "a = []\na += range(10 ** 12)",
    "extend-range": "[].extend(range(10 ** 12))",
    "star-range": "return max(*range(10 ** 12))",
    "star-display": "a = [0]\nwhile True:\n    a = [*a, *a]",
    "star-target": "a, *b = range(10 ** 12)",
    "star-target-loop": "for a, *b in [range(10 ** 12)]:\n    pass",
    "endless-sum": "from itertools import count\nreturn sum(count())",
    "endless-set": "from itertools import count\nreturn set(count())",
    "endless-in": "from itertools import count\nreturn -1 in count()",
    "endless-iter": "return list(iter(dict, 1))",
    "endless-zip": "from itertools import repeat\nreturn dict(zip(repeat(1), repeat(2)))",
    "endless-join": "from itertools import repeat\nreturn ''.join(repeat('x'))",
    "endless-deque": "from collections import deque\nfrom itertools import count\nreturn deque(count(), 1)",
    "endless-generator": "from itertools import count\nreturn any(x < 0 for x in count())",
    "endless-view": "from itertools import count\nreturn {}.keys() & count()",
    "endless-tail": "from itertools import count\nxs = [0]\nfor x in xs:\n    xs.append(x)",
    "product": "from itertools import product\nreturn len(list(product(range(100), repeat=9)))",
    "counter-elements": "from collections import Counter\nreturn len(list(Counter(a=10 ** 12).elements()))",
    "replace": "return len(('a' * 10000).replace('a', 'b' * 100000))",
    "substitute": "import re\nreturn len(re.sub('', 'x' * 100000, 'a' * 100000))",
    "substitute-groups": "import re\nreturn len(re.sub('(a+)', r'\\1' * 1000, 'a' * 1000000))",
    "indent": "import textwrap\nreturn len(textwrap.indent('a\\n' * 100000, ' ' * 100000))",
    "bytes": "return len(bytes(10 ** 10))",
    "to-bytes": "return len((1).to_bytes(10 ** 10, 'big'))",
    "round": "return round(1, -10 ** 9)",
    "modular-power": "return pow(3, (1 << 65000) - 1, (1 << 65000) - 3)",
    "factorial": "import math\nreturn math.factorial(10 ** 6)",
    "comb": "import math\nreturn math.comb(10 ** 7, 5 * 10 ** 6)",
    "prod": "import math\nreturn math.prod(range(1, 10 ** 5))",
    "decimal-to-int": "from decimal import Decimal\nreturn int(Decimal('1e999999')) // 7",
    "decimal-floor": "import math\nfrom decimal import Decimal\nreturn math.floor(Decimal('1e999999')) // 7",
    "fraction-power": "from fractions import Fraction\nreturn Fraction(3, 2) ** 10 ** 9",
    "fraction-text": "from fractions import Fraction\nreturn Fraction('1e99999999')",
    "operator-module": "import operator\nreturn operator.mul('x', 10 ** 12)",
    "operator-power": "import operator\nreturn operator.pow(10, 10 ** 9)",
    "accumulate": "from itertools import accumulate, repeat\nreturn [*accumulate(repeat([0]), lambda a, b: a + a)]",
    "json-indent": "import json\nreturn len(json.dumps([[1]] * 100, indent=10 ** 9))",
    "hash-of-tower": "t = ()\nfor i in range(60):\n    t = (t, t)\nreturn {t}",
    "range-index": "return range(10 ** 12).index(1.5)",
    "hash-of-long-chain": "t = ()\nfor i in range(150000):\n    t = (t,)\nreturn {t}",
    "view-of-range": "return {}.keys() | range(10 ** 12)",
    "json-separators": "import json\nreturn len(json.dumps([0] * 10 ** 6, separators=('x' * 10 ** 6, ':')))",
    "json-indentation": "import json\na = 0\nfor i in range(500):\n    a = [a] * (10000 if i == 0 else 1)\n"
    "return len(json.dumps([a] * 90, indent=16))",
    "json-shared-text": "import json\nreturn len(json.dumps(['x' * 10 ** 7] * 10 ** 5))",
    "counter-of-text": "from collections import Counter\nc = Counter(a='x')\nwhile True:\n    c.update(c)",
    "percent-many-fields": "return len(('%(a)9999s' * 10 ** 6) % {'a': 1})",
    "format-many-fields": "return len(('{0:9999}' * 10 ** 6).format(1))",
    "strftime-width": "from datetime import date\nreturn date(2024, 1, 1).strftime('%99999999d')",
    "fraction-underscores": "from fractions import Fraction\nreturn Fraction('1e9_9_9_9_9_9_9_9_9')",
    "decimal-digits": "from decimal import Decimal\nreturn Decimal('1.' + '9' * 10 ** 7).as_integer_ratio()",
    "slice-left-in-a-mapping": "import collections\nd = collections.defaultdict(list)\ntry:\n    d[0:0] += [1]\n"
    "except TypeError:\n    pass\na = [0]\nwhile True:\n    a[list(d)[0]] = a",
    "fraction-subtraction": "from fractions import Fraction\nx = Fraction(1, 3)\nwhile True:\n    x = x - 1 / (x + 2)",
    "nested-iterators": "it = iter([1])\nwhile True:\n    for i in range(60000):\n        it = filter(None, it)\n"
    "    next(it)",
    "partial-text": "import functools\na = []\nfor i in range(60):\n    a = [a, a]\n"
    "while repr(functools.partial(len, a)):\n    pass",
    "recursion": "def f():\n    return f()\nreturn f()",
    "dict-doubling": "d = {}\nn = 0\nwhile True:\n    n += 1\n    d[n] = [0] * 1000000",
}
for bomb, text in BOMBS.items():
    body(f"resource.{bomb}", KILL, text, RUN, LOAD)

body(
    "resource.deepcopy-of-tangle",
    FINE,
    """
    import copy
    a = ()
    for i in range(60):
        a = (a, a)
    return len(copy.deepcopy(a))
    """,
)

# -- what C code does not check itself
body(
    "memory.codec-error-reads-before-its-data",
    RUN,
    """
    return ["PWNED" + str(UnicodeDecodeError("a", b"x", -n, 1 - n, "r")) for n in range(20, 40)][0]
    """,
)
body(
    "memory.codec-error-inside-an-error",
    RUN,
    """
    from json import JSONDecodeError
    return "PWNED" + str(JSONDecodeError(UnicodeDecodeError("a", b"x", -30, -29, "r"), "", 0))
    """,
)
body(
    "memory.codec-error-by-its-type",
    RUN,
    """
    try:
        b"\\xff".decode()
    except UnicodeError as e:
        return "PWNED" + str(type(e)("a", b"x", -30, -29, "r"))
    """,
)
for kind, state in {"date": "0001", "time": "zzzzzz", "datetime": "0001zzzzzz"}.items():
    value = f'bytes([int(c) if c.isdigit() else 255 for c in "{state}"])'
    body(
        f"memory.pickled-{kind}",
        RUN,
        f"from datetime import {kind}\nreturn 'PWNED' + str({kind}({value}).strftime('%c'))",
    )
body("memory.weekday-of-year-0", RUN, "from datetime import date\nreturn 'PWNED' + date(bytes([0, 0, 1, 1])).ctime()")

# -- sources that attack the compiler
script("load.parentheses", LOAD, "x = " + "(" * 5000 + ")" * 5000)
script("load.brackets", LOAD, "x = " + "[" * 190 + "]" * 190)
script("load.comparisons", LOAD, "x = " + "not " * 20000 + "1")
script("load.long-sum", LOAD, "x = " + " + ".join(["y"] * 3000))
script(
    "load.nested-functions", LOAD, "\n".join(" " * i + f"def f{i}():" for i in range(120)) + "\n" + " " * 121 + "pass"
)
script("load.nested-formats", LOAD, "x = " + "f'{1:" * 3 + "{" * 50)
script("load.null", LOAD, "x = 1\0")
script("load.huge-number", LOAD, "x = 0x" + "f" * 5000)
script("load.too-long", LOAD, "#" * 200_000)
script("load.too-many-parts", LOAD, "x = [" + "1," * 60_000 + "]")
script("load.constant-bomb", KILL, "x = 'a' * 10 ** 10\ndef main(**kw):\n    return 1", RUN)
script("load.tabs", LOAD, "if 1:\n        x = 1\n\ty = 2")

# -- what differs between two executions
STABLE = {"stable": True}
body("determinism.set-literal", FINE, 'return [x for x in {"a", "b", "c", "delta", "echo"}]', **STABLE)
body("determinism.set-comprehension", FINE, 'return list({c for c in "hello world"})', **STABLE)
body("determinism.set-pop", FINE, 's = set("abcdef")\nreturn [s.pop() for i in range(6)]', **STABLE)
body("determinism.set-operators", FINE, 'return list((set("abc") | set("xyz")) - set("b") ^ set("zq"))', **STABLE)
body("determinism.frozenset", FINE, 'return list(frozenset(["x", "yy", "zzz"])) + [str(frozenset("ab"))]', **STABLE)
body("determinism.items-algebra", FINE, 'return str({"a": 1, "b": 2}.items() - {"a": 1}.items())', **STABLE)
body(
    "determinism.set-of-functions",
    FINE,
    """
    fs = {run, emit, wait, main, len}
    return [f == run for f in fs] + [str(f) for f in fs]
    """,
    **STABLE,
)
body(
    "determinism.repr-of-function",
    FINE,
    'return [str(main), repr([main]), f"{main}", "%r" % main, "{}".format(main)]',
    **STABLE,
)
body(
    "determinism.error-text",
    FINE,
    """
    texts = []
    for f in [lambda: {}[main], lambda: [].remove(main), lambda: main < run, lambda: int(main), lambda: {main: 1}["x"]]:
        try:
            f()
        except Exception as e:
            texts.append(str(e) + repr(e) + str(e.args))
    return texts
    """,
    **STABLE,
)
body(
    "determinism.query-of-function", FINE, "from urllib.parse import urlencode\nreturn urlencode({'f': main})", **STABLE
)
body("determinism.iterator-text", FINE, "return str(iter([])) + str(map(len, [])) + str((x for x in [1]))", **STABLE)
body(
    "determinism.texts-of-objects-of-c",
    FINE,
    """
    import hashlib, re, datetime, decimal, functools, itertools
    things = [hashlib.sha256(), hashlib.blake2b(), re.match("a", "a"), re.compile("a"), itertools.tee([1]), [].append]
    things += [functools.cmp_to_key(max), functools.cmp_to_key(max)(1), reversed([1]), {}.values(), "a".join, print]
    text = str(things) + "".join([str(thing) + f"{thing}" + "%s" % (thing,) for thing in things])
    return "PWNED" if " 0x" in text else text
    """,
    **STABLE,
)
body("determinism.partial-text", FINE, "from functools import partial\nreturn str(partial(main, 1))", **STABLE)
body(
    "determinism.text-of-a-call-error",
    FINE,
    """
    from functools import partial
    try:
        partial(main)(**5)
    except TypeError as e:
        text = str(e)
    return "PWNED" if " at 0x" in text else text
    """,
    **STABLE,
)
body(
    "determinism.seconds-of-the-zone", RUN, "from datetime import datetime\nreturn datetime(2024, 7, 1).strftime('%-s')"
)
body("determinism.format-of-the-zone", RUN, "from datetime import datetime\nreturn f'{datetime(2024, 7, 1):%s}'")
body(
    "determinism.name-of-the-zone",
    RUN,
    """
    from datetime import datetime
    return "PWNED %s" % datetime.strptime("2024 " + kw.get("zone", "XYZ"), "%Y %Z")
    """,
    zone="XYZ-3",
)
body(
    "determinism.locale-of-a-pattern",
    RUN,
    'import re\nreturn [bool(re.match(b"\\\\w", b"\\xe4", 4)), re.compile("a", 128)]',
)
body("determinism.identity", LOAD, "return kw is main")
body("determinism.hash", LOAD, 'return hash("x")')
body("determinism.id", LOAD, "return sorted([main, run], key=id)")
body(
    "determinism.naive-timestamp",
    FINE,
    """
    from datetime import datetime
    return [datetime(2024, 7, 1).timestamp(), str(datetime.fromtimestamp(0)), str(datetime(2024, 7, 1).astimezone())]
    """,
    **STABLE,
)
body("determinism.counter", FINE, 'from collections import Counter\nreturn str(Counter("mississippi"))', **STABLE)
body("determinism.frozenset-of-sets", FINE, "return [list(x) for x in {frozenset('ab'), frozenset('cd')}]", **STABLE)

# -- values that pose as others, and injected functions used wrongly
body("type.function-in-payload", RUN, 'emit("x", f=main)')
body("type.set-in-payload", RUN, 'emit("x", s={1})')
body("type.opaque-in-payload", RUN, 'emit("x", c=kw["ctx"])')
body("type.nan-in-payload", RUN, 'emit("x", n=float("nan"))')
body("type.huge-int-in-payload", RUN, 'emit("x", n=1 << 70)')
body("type.cycle-in-payload", RUN, 'a = []\na.append(a)\nemit("x", a=a)', KILL)
body("type.name-not-text", RUN, 'emit(["PWNED"])')
body("type.counter-in-payload", RUN, 'from collections import Counter\nemit("x", c=Counter("aa"))', FINE)
script("type.main-is-lambda", FINE, "main = lambda **kw: 1")
script("type.main-is-facade", RUN, "main = dict")
script("type.module-level-effect", RUN, 'emit("PWNED")\ndef main(**kw):\n    return 1')
script("type.effect-in-decorator", RUN, '@emit\ndef main(**kw):\n    return "PWNED"')
script("type.effect-in-default", RUN, 'def main(x=run("light.on"), **kw):\n    return "PWNED"')
