-- What runs have shown, added up (scriptrules.sightings): as many rows as there are rules and names, never as tasks.
-- `by` is the rule whose run generated the task, or empty: it came from outside. Day 0 is all that is older.
CREATE TABLE matrix (
    day INTEGER NOT NULL,
    by TEXT NOT NULL,
    rule TEXT NOT NULL,
    count INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (day, by, rule)
) WITHOUT ROWID;

CREATE TABLE matrix_durations (
    day INTEGER NOT NULL,
    by TEXT NOT NULL,
    rule TEXT NOT NULL,
    class INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, by, rule, class)
) WITHOUT ROWID;

CREATE TABLE edges (
    rule TEXT NOT NULL,
    task TEXT NOT NULL,
    via TEXT NOT NULL,
    count INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (rule, task, via)
) WITHOUT ROWID;

CREATE TABLE edge_delays (
    rule TEXT NOT NULL,
    task TEXT NOT NULL,
    via TEXT NOT NULL,
    class INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (rule, task, via, class)
) WITHOUT ROWID;
