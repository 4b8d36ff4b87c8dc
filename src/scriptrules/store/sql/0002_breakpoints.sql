-- Breakpoints set while running, what has passed them, what is stepped through, and who did what.
CREATE TABLE breakpoints (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE passes (
    thing TEXT NOT NULL,                 -- a task, or a run
    seq INTEGER NOT NULL,                -- the entry of the run; 0 for the task itself
    breakpoint TEXT NOT NULL,
    PRIMARY KEY (thing, seq, breakpoint)
) WITHOUT ROWID;

CREATE TABLE stepping (thing TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    verb TEXT NOT NULL,
    thing TEXT NOT NULL,                 -- a task, a run, a breakpoint
    request TEXT,                        -- of whoever asked: what was done for it is not done again
    detail BLOB                          -- JSON: what changed
);
CREATE INDEX audit_thing ON audit (thing);
CREATE INDEX audit_request ON audit (request) WHERE request IS NOT NULL;
