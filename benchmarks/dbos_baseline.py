"""The baseline: workflows of DBOS on SQLite, one step each, a hundred at a time. Run by `durable.py` in a virtualenv of
its own: ``python dbos_baseline.py FOLDER COUNT CONCURRENT stock|wal`` prints ``{"seconds": …, "journal_mode": …, …}``.

DBOS leaves the journal mode as it finds it: the file's own is SQLite's default, a rollback journal (``stock``). With
``wal`` the file is put into WAL mode before DBOS opens it. ``synchronous`` is FULL in both, as it is on our side.

What was tried and rejected: async workflows and `start_workflow` are no faster than calls from as many threads.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pysqlite3  # type: ignore[import-not-found,unused-ignore]

sys.modules["sqlite3"] = pysqlite3  # DBOS needs SQLite 3.42 or newer, and Debian 12 has 3.40

WARM_UP = 100  # workflows


def main(folder: Path, count: int, concurrent: int, journal: str) -> None:
    path = folder / "dbos.db"
    connection = pysqlite3.connect(path)
    mode = connection.execute(f"PRAGMA journal_mode = {'WAL' if journal == 'wal' else 'DELETE'}").fetchone()[0]
    connection.close()

    from dbos import DBOS  # type: ignore[import-not-found,unused-ignore]
    from sqlalchemy import event  # type: ignore[import-not-found,unused-ignore]
    from sqlalchemy.engine import Engine  # type: ignore[import-not-found,unused-ignore]

    levels: set[int] = set()

    @event.listens_for(Engine, "connect")  # type: ignore[untyped-decorator,unused-ignore]
    def fully_durable(raw: object, _: object) -> None:
        cursor = raw.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA synchronous = FULL")
        levels.add(cursor.execute("PRAGMA synchronous").fetchone()[0])
        cursor.close()

    DBOS(
        config={
            "name": "baseline",
            "system_database_url": f"sqlite:///{path}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )

    @DBOS.step()  # type: ignore[untyped-decorator,unused-ignore]
    def note(size: int, customer: str) -> dict[str, object]:
        return {"size": size, "customer": customer}

    @DBOS.workflow()  # type: ignore[untyped-decorator,unused-ignore]
    def order(size: int, customer: str) -> dict[str, object] | None:
        return note(size, customer) if size > 0 else None  # type: ignore[no-any-return,unused-ignore]

    DBOS.launch()
    with ThreadPoolExecutor(concurrent) as callers:

        def round(workflows: int) -> float:
            began = time.perf_counter()
            for result in callers.map(lambda number: order(number + 1, f"c{number}"), range(workflows)):
                assert result is not None
            return time.perf_counter() - began

        round(WARM_UP)
        seconds = round(count)
    DBOS.destroy()
    answer = {"seconds": seconds, "sqlite": pysqlite3.sqlite_version, "journal_mode": mode, "synchronous": list(levels)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
