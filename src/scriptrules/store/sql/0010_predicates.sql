-- An IN of more than two is a table that SQLite builds anew for each row that it asks of a partial index: a third of
-- what a commit cost. Said by OR it is a comparison, and `state = 'new'` alone implies it.
DROP INDEX tasks_state;
CREATE INDEX tasks_state ON tasks (state, id)
WHERE state = 'new' OR state = 'held' OR state = 'running' OR state = 'failed';
DROP INDEX runs_state;
CREATE INDEX runs_state ON runs (state, id)
WHERE state = 'queued' OR state = 'running' OR state = 'waiting' OR state = 'held' OR state = 'failed';
DROP INDEX wakes_waiting;
CREATE INDEX wakes_waiting ON wakes (key) WHERE kind = 'receive' OR kind = 'tree' OR kind = 'branch';
