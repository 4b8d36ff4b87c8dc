"""An example of wrong and right for each code of a finding in declarative rules; `examples` has those in Python."""

from __future__ import annotations

_JOB = """\
on: upload.finished
type: Process
body: {host: local, name: order, image: sort, args: [-n]}
"""

YAML_EXAMPLES: dict[str, tuple[str, str]] = {
    "SR407": (
        """\
on: upload.finished
type: Process
body:
  host: local
  name: order
  image: sort
  args:
    - -k 2
""",
        """\
on: upload.finished
type: Process
body:
  host: local
  name: order
  image: sort
  args:
    - -k
    - 2
""",
    ),
    "SR408": (
        """\
on: report.ready
then: report.ready
""",
        """\
on: report.ready
then: report.published
""",
    ),
    "SR701": (
        """\
on: "upload.finished
then: report.wanted
""",
        """\
on: "upload.finished"
then: report.wanted
""",
    ),
    "SR702": (
        """\
on: upload.finished
then: !!set {report.wanted}
""",
        """\
on: upload.finished
then: [report.wanted]
""",
    ),
    "SR703": (
        """\
on: upload.finished
wen: task["size"] > 0
then: report.wanted
""",
        """\
on: upload.finished
when: task["size"] > 0
then: report.wanted
""",
    ),
    "SR704": (
        """\
on: upload.finished
type: Process
body: {host: local, name: order}
""",
        _JOB,
    ),
    "SR705": (
        """\
on: upload.finished
type: Process
body: {host: local, name: order, image: sort, args: -n}
""",
        _JOB,
    ),
    "SR706": (
        """\
on: upload.finished
type: Proces
body: {host: local, name: order, image: sort, args: [-n]}
""",
        _JOB,
    ),
    "SR707": (
        """\
on: upload.finished
type: Process
body: {host: locl, name: order, image: sort, args: [-n]}
""",
        _JOB,
    ),
}
