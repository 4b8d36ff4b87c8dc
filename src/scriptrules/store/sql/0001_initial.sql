-- Ids are text that sorts by time, so that rows are appended at the end of these trees.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    created INTEGER NOT NULL,
    root TEXT NOT NULL,
    parent TEXT,
    by TEXT,
    hop INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    key TEXT,
    reply INTEGER,
    reason TEXT,
    open INTEGER NOT NULL DEFAULT 0   -- runs that have not ended
) WITHOUT ROWID;
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_state ON tasks (state, id) WHERE state IN ('new', 'held', 'running', 'failed');

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    task TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    created INTEGER NOT NULL,
    reason TEXT,
    ended INTEGER,
    value BLOB,
    error BLOB,
    attempt INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    python TEXT NOT NULL,
    policy INTEGER NOT NULL,
    reasons BLOB
) WITHOUT ROWID;
CREATE INDEX runs_task ON runs (task);
CREATE INDEX runs_state ON runs (state, id) WHERE state IN ('queued', 'running', 'waiting', 'held', 'failed');

-- Append-only with a narrow index: 2.6 times the rate of a table clustered by (run, seq).
CREATE TABLE journal (id INTEGER PRIMARY KEY, run TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX journal_run ON journal (run);

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL,
    fields BLOB
);
CREATE INDEX logs_run ON logs (run);

CREATE TABLE wakes (
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    due INTEGER,
    PRIMARY KEY (run, seq, kind, key)
) WITHOUT ROWID;
CREATE INDEX wakes_due ON wakes (due) WHERE due IS NOT NULL;
CREATE INDEX wakes_key ON wakes (key) WHERE kind IN ('task', 'call');

CREATE TABLE sources (digest TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
