-- name: insert_tasks
INSERT INTO tasks (id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: known_keys
SELECT key, id, name, data FROM tasks WHERE key IN (SELECT value FROM json_each(?));

-- name: move_tasks
UPDATE tasks SET state = ?, since = ?, reason = ?, open = ? WHERE id = ?;

-- name: reopen_tasks
UPDATE tasks SET state = 'running', reason = NULL, since = ?2, open = open + 1 WHERE id = ?1;

-- name: count_end
UPDATE tasks SET open = open - 1 WHERE id = ?;

-- name: end_tasks
UPDATE tasks
SET since = ?2, reason = NULL, state = CASE
    WHEN EXISTS (SELECT 1 FROM runs WHERE task = tasks.id AND state = 'failed') THEN 'failed'
    WHEN EXISTS (SELECT 1 FROM runs WHERE task = tasks.id AND state = 'cancelled') THEN 'cancelled'
    ELSE 'done' END
WHERE id IN (SELECT value FROM json_each(?1)) AND open = 0 AND state = 'running'
RETURNING id, state;

-- name: put_runs
INSERT OR REPLACE INTO runs (id, rule, task, digest, state, since, created, reason, ended, value, error, attempt,
    answers, python, policy, reasons)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: append_journal
INSERT INTO journal (run, body) VALUES (?, ?);

-- name: append_logs
INSERT INTO logs (run, at, seq, stream, text, fields) VALUES (?, ?, ?, ?, ?, ?);

-- name: put_wakes
INSERT OR REPLACE INTO wakes (run, seq, kind, key, due) VALUES (?, ?, ?, ?, ?);

-- name: remove_wakes
DELETE FROM wakes WHERE run = ? AND seq = ? AND kind = ? AND key = ?;

-- name: put_source
INSERT OR IGNORE INTO sources (digest, body) VALUES (?, ?);

-- name: wakes_on_ended_tasks
SELECT run, seq, kind, key, due FROM wakes
WHERE kind IN ('task', 'call') AND key IN (SELECT value FROM json_each(?));

-- name: wakes_on_answers
-- The first condition repeats that of the partial index, which SQLite does not use otherwise; so below.
SELECT run, seq, kind, key, due FROM wakes
WHERE kind IN ('task', 'call') AND kind = 'call' AND key IN (SELECT value FROM json_each(?));

-- name: ended_among
SELECT t.id FROM tasks t JOIN json_each(?) k ON t.id = k.value
WHERE t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled');

-- name: awake
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN tasks t ON t.id = w.key
WHERE w.kind IN ('task', 'call') AND t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled')
UNION
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN runs r ON r.task = w.key
WHERE w.kind IN ('task', 'call') AND w.kind = 'call' AND r.answers = 1 AND r.state IN ('done', 'failed', 'cancelled');

-- name: task
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks WHERE id = ?;

-- name: run
SELECT id, rule, task, digest, state, since, created, reason, ended, value, error, attempt, answers, python, policy,
    reasons
FROM runs WHERE id = ?;

-- name: tasks
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks WHERE
-- name: runs
SELECT r.id, r.rule, r.task, r.digest, r.state, r.since, r.created, r.reason, r.ended, r.value, r.error, r.attempt,
    r.answers, r.python, r.policy, r.reasons
FROM runs r WHERE
-- name: journal
SELECT body FROM journal WHERE run = ? ORDER BY id;

-- name: logs
SELECT id, at, seq, stream, text, fields FROM logs WHERE run = ? AND id > ? ORDER BY id LIMIT ?;

-- name: source
SELECT body FROM sources WHERE digest = ?;

-- name: task_counts
SELECT state, count(*) FROM tasks GROUP BY state;

-- name: run_counts
SELECT state, count(*) FROM runs GROUP BY state;

-- name: new_tasks
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks
WHERE state IN ('new', 'held', 'running', 'failed') AND state = 'new' AND id > ? ORDER BY id LIMIT ?;

-- name: unfinished_runs
SELECT id, rule, task, digest, state, since, created, reason, ended, value, error, attempt, answers, python, policy,
    reasons
FROM runs INDEXED BY runs_state
WHERE state IN ('queued', 'running', 'waiting', 'held', 'failed') AND state IN ('queued', 'running') AND id > ?
ORDER BY id LIMIT ?;

-- name: wakes
SELECT run, seq, kind, key, due FROM wakes
WHERE kind IN (SELECT value FROM json_each(?)) AND (run, seq) > (?, ?) ORDER BY run, seq LIMIT ?;

-- name: wakes_of
SELECT run, seq, kind, key, due FROM wakes WHERE run = ? ORDER BY seq;

-- name: due
SELECT run, seq, kind, key, due FROM wakes WHERE due <= ? ORDER BY due LIMIT ?;

-- name: next_due
SELECT min(due) FROM wakes WHERE due IS NOT NULL;
