-- What has happened to tasks and runs, for whoever watches: a row for each commit. `position` is that of the last
-- transition in `body`; the one before it has the position before it, and so on.
CREATE TABLE events (position INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- How many tasks and runs there are in each final state; those in other states are few, and have an index.
CREATE TABLE counts (kind TEXT NOT NULL, state TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (kind, state))
WITHOUT ROWID;
INSERT INTO counts SELECT 'tasks', state, count(*) FROM tasks
WHERE state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled') GROUP BY state;
INSERT INTO counts SELECT 'runs', state, count(*) FROM runs WHERE state IN ('done', 'failed', 'cancelled') GROUP BY state;
