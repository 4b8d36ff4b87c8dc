-- name: insert_tasks
-- FAIL is enough, and spares a journal of the statement: whatever fails is rolled back with its whole transaction.
INSERT OR FAIL INTO tasks (id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason, arrived)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

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
SET since = ?2, reason = (
    SELECT coalesce(
        substr('rule ' || rule || coalesce(', line ' || json_extract(CAST(error AS TEXT), '$.line'), '') || ': '
            || json_extract(CAST(error AS TEXT), '$.type') || ': '
            || json_extract(CAST(error AS TEXT), '$.message'), 1, 1000),
        'rule ' || rule || ' was failed')
    FROM runs WHERE task = tasks.id AND state = 'failed' ORDER BY id LIMIT 1
), state = CASE
    WHEN EXISTS (SELECT 1 FROM runs WHERE task = tasks.id AND state = 'failed') THEN 'failed'
    WHEN EXISTS (SELECT 1 FROM runs WHERE task = tasks.id AND state = 'cancelled') THEN 'cancelled'
    ELSE 'done' END
WHERE id IN (SELECT value FROM json_each(?1)) AND open = 0 AND state = 'running'
RETURNING id, state, reason;

-- name: put_runs
INSERT OR REPLACE INTO runs (id, rule, task, digest, state, since, created, reason, ended, value, error, attempt,
    answers, python, policy, reasons, control, deadline, slot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: append_journal
INSERT OR FAIL INTO journal (run, body) VALUES (?, ?);

-- name: append_logs
INSERT INTO logs (run, at, seq, stream, text, fields) VALUES (?, ?, ?, ?, ?, ?);

-- name: put_wakes
INSERT OR REPLACE INTO wakes (run, seq, kind, key, due) VALUES (?, ?, ?, ?, ?);

-- name: remove_wakes
DELETE FROM wakes WHERE run = ? AND seq = ? AND kind = ? AND key = ?;

-- name: release_tasks
UPDATE tasks SET arrived = ? WHERE id = ?;

-- name: last_place
SELECT value FROM meta WHERE name = 'place';

-- name: put_place
INSERT INTO meta VALUES ('place', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: receive_keys
SELECT DISTINCT key FROM wakes WHERE kind = 'receive';

-- name: arrived_before
-- Whether a task of this name has arrived since that of the run.
SELECT 1 FROM tasks
WHERE name = ?1 AND arrived > (SELECT arrived FROM tasks WHERE id = (SELECT task FROM runs WHERE id = ?2)) LIMIT 1;

-- name: make_due
UPDATE wakes SET due = ? WHERE run = ? AND seq = ? AND kind = 'receive' AND key = ?;

-- name: make_keys_due
UPDATE wakes SET due = ?1
WHERE kind = 'receive' AND key IN (SELECT value FROM json_each(?2));

-- name: quiet_wakes
UPDATE wakes SET due = NULL WHERE run = ? AND seq = ? AND kind = 'receive' AND key = ? AND due = ?;

-- name: names_and_data
SELECT name, data FROM tasks WHERE id IN (SELECT value FROM json_each(?));

-- name: names_between
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM tasks WHERE name >= ?1 AND name < ?2
    UNION ALL SELECT (SELECT min(name) FROM tasks WHERE name > names.name AND name < ?2)
    FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL;

-- name: place_of
SELECT arrived FROM tasks WHERE id = ?;

-- name: remembered
SELECT since FROM shapes WHERE shape = ?;

-- name: remember
INSERT OR IGNORE INTO shapes (shape, since) VALUES (?, ?);

-- name: shapes
SELECT shape FROM shapes;

-- name: note_arrivals
INSERT OR IGNORE INTO arrivals (key, place, task) VALUES (?, ?, ?);

-- name: arrived_by_name
SELECT arrived, id FROM tasks
WHERE name IN (SELECT value FROM json_each(?1)) AND arrived > ?2 AND arrived <= ?3 ORDER BY arrived LIMIT ?4;

-- name: arrived_by_key
-- One that was held since has another place now, and a row for that.
SELECT a.place, a.task FROM arrivals a JOIN tasks t ON t.id = a.task
WHERE a.key = ?1 AND a.place > ?2 AND t.arrived = a.place ORDER BY a.place LIMIT ?3;

-- name: tasks_by_id
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks
WHERE id IN (SELECT value FROM json_each(?));

-- name: put_marks
INSERT OR REPLACE INTO marks (name, spec, at) VALUES (?, ?, ?);

-- name: marks
SELECT name, spec, at FROM marks;

-- name: put_source
INSERT OR IGNORE INTO sources (digest, body) VALUES (?, ?);

-- name: put_variable
INSERT OR REPLACE INTO variables (root, name, value, since, by, version) VALUES (?, ?, ?, ?, ?, ?);

-- name: remove_variable
DELETE FROM variables WHERE root = ? AND name = ?;

-- name: put_secrets
INSERT OR REPLACE INTO secrets (name, version, source, key, sealed, since) VALUES (?, ?, ?, ?, ?, ?);

-- name: put_uses
INSERT OR IGNORE INTO secret_uses (name, version, run) VALUES (?, ?, ?);

-- name: forget_unused
DELETE FROM secrets WHERE name = ?1 AND source = ''
AND NOT EXISTS (SELECT 1 FROM secret_uses u WHERE u.name = ?1 AND u.version = secrets.version);

-- name: prune_variables
DELETE FROM variables WHERE root <> '' AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = variables.root);

-- name: prune_uses
DELETE FROM secret_uses WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = secret_uses.run);

-- name: prune_secrets
DELETE FROM secrets
WHERE NOT EXISTS (SELECT 1 FROM secret_uses u WHERE u.name = secrets.name AND u.version = secrets.version)
AND NOT EXISTS (SELECT 1 FROM variables v WHERE v.root = '' AND v.name = secrets.name AND v.version = secrets.version)
AND EXISTS (SELECT 1 FROM secrets n WHERE n.name = secrets.name AND n.version > secrets.version AND n.since < ?);

-- name: wakes_on_ended_tasks
SELECT run, seq, kind, key, due FROM wakes
WHERE kind IN ('task', 'call') AND key IN (SELECT value FROM json_each(?));

-- name: wakes_on_answers
-- The first condition repeats that of the partial index, which SQLite does not use otherwise; so below.
SELECT run, seq, kind, key, due FROM wakes
WHERE kind IN ('task', 'call') AND kind = 'call' AND key IN (SELECT value FROM json_each(?));

-- name: wakes_on_trees
SELECT run, seq, kind, key, due FROM wakes
WHERE (kind = 'receive' OR kind = 'tree' OR kind = 'branch') AND kind IN ('tree', 'branch')
    AND key IN (SELECT value FROM json_each(?));

-- name: anybody_waits
SELECT EXISTS (SELECT 1 FROM wakes WHERE kind IN ('task', 'call')) OR EXISTS (SELECT 1 FROM wakes WHERE kind = 'tree');

-- name: children
SELECT r.task, t.id, t.state FROM json_each(?) k JOIN runs r ON r.task = k.value JOIN tasks t ON t.parent = r.id;

-- name: whole_tree
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN tasks t ON t.id = w.key
WHERE w.run = ?1 AND w.seq = ?2 AND w.kind = 'tree'
    AND t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled')
    AND NOT EXISTS (SELECT 1 FROM wakes WHERE run = ?1 AND seq = ?2 AND kind = 'branch');

-- name: remove_branches
DELETE FROM wakes WHERE run = ? AND seq = ? AND kind = 'branch';

-- name: unwell
WITH RECURSIVE tree (id) AS (
    SELECT ?1 UNION SELECT t.id FROM tree JOIN runs r ON r.task = tree.id JOIN tasks t ON t.parent = r.id
)
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason
FROM tasks JOIN tree USING (id) WHERE state NOT IN ('done', 'unmatched')
ORDER BY state IN ('failed', 'dropped', 'cancelled'), id LIMIT ?2;

-- name: ended_among
SELECT t.id FROM tasks t JOIN json_each(?) k ON t.id = k.value
WHERE t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled');

-- name: awake
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN tasks t ON t.id = w.key
WHERE w.kind IN ('task', 'call') AND t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled')
UNION
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN runs r ON r.task = w.key
WHERE w.kind IN ('task', 'call') AND w.kind = 'call' AND r.answers = 1 AND r.state IN ('done', 'failed', 'cancelled')
UNION
SELECT w.run, w.seq, w.kind, w.key, w.due FROM wakes w JOIN tasks t ON t.id = w.key
WHERE w.kind = 'tree'
    AND t.state IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled')
    AND NOT EXISTS (SELECT 1 FROM wakes b WHERE b.run = w.run AND b.seq = w.seq AND b.kind = 'branch');

-- name: orphans
-- The answering run of a call may have ended before others that the task has.
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks
WHERE (state = 'new' OR state = 'held' OR state = 'running' OR state = 'failed')
    AND state IN ('new', 'held', 'running')
    AND reply IS NOT NULL AND id > ?1
    AND NOT EXISTS (SELECT 1 FROM wakes w WHERE w.kind IN ('task', 'call') AND w.kind = 'call' AND w.key = tasks.id)
    AND NOT EXISTS (
        SELECT 1 FROM runs r
        WHERE r.task = tasks.id AND r.answers = 1 AND r.state IN ('done', 'failed', 'cancelled')
    )
ORDER BY id LIMIT ?2;

-- name: task
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks WHERE id = ?;

-- name: run
SELECT id, rule, task, digest, state, since, created, reason, ended, value, error, attempt, answers, python, policy,
    reasons, control, deadline, slot
FROM runs WHERE id = ?;

-- name: tasks
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks WHERE
-- name: runs
SELECT r.id, r.rule, r.task, r.digest, r.state, r.since, r.created, r.reason, r.ended, r.value, r.error, r.attempt,
    r.answers, r.python, r.policy, r.reasons, r.control, r.deadline, r.slot
FROM runs r WHERE
-- name: journal
SELECT body FROM journal WHERE run = ? ORDER BY id;

-- name: logs
SELECT id, at, seq, stream, text, fields FROM logs WHERE run = ? AND id > ? ORDER BY id LIMIT ?;

-- name: source
SELECT body FROM sources WHERE digest = ?;

-- name: variables_named
SELECT root, name, value, since, by, version FROM variables WHERE root IN (?1, '') AND name = ?2 ORDER BY root DESC;

-- name: variables
SELECT root, name, value, since, by, version FROM variables WHERE root = ? AND name > ? ORDER BY name LIMIT ?;

-- name: secret_versions
SELECT name, version, source, key, sealed, since FROM secrets WHERE ?1 IS NULL OR name = ?1
ORDER BY name, version DESC;

-- name: secret_for
SELECT s.name, s.version, s.source, s.key, s.sealed, s.since
FROM secrets s JOIN secret_uses u ON u.name = s.name AND u.version = s.version
WHERE s.name = ? AND s.version = ? AND u.run = ?;

-- name: counts
-- Of the final states by their counters; the others are few, and have an index.
SELECT kind, state, number FROM counts WHERE number > 0
UNION ALL
SELECT 'tasks', state, count(*) FROM tasks
WHERE (state = 'new' OR state = 'held' OR state = 'running' OR state = 'failed')
    AND state IN ('new', 'held', 'running') GROUP BY state
UNION ALL
SELECT 'runs', state, count(*) FROM runs
WHERE (state = 'queued' OR state = 'running' OR state = 'waiting' OR state = 'held' OR state = 'failed')
    AND state IN ('queued', 'running', 'waiting', 'held')
GROUP BY state;

-- name: add_counts
INSERT INTO counts (kind, state, number) VALUES (?, ?, ?)
ON CONFLICT (kind, state) DO UPDATE SET number = number + excluded.number;

-- name: states
SELECT id, state FROM tasks WHERE id IN (SELECT value FROM json_each(?));

-- name: outstanding
SELECT kind, count(*) FROM wakes GROUP BY kind;

-- name: in_tree
id IN (
    WITH wanted (root) AS (SELECT ?)
    SELECT t.id FROM wanted w JOIN tasks t ON t.id = w.root WHERE t.root = w.root
    UNION ALL
    SELECT t.id FROM wanted w JOIN tasks t INDEXED BY tasks_root ON t.root = w.root WHERE t.parent IS NOT NULL
)

-- name: run_states
SELECT id, state FROM runs WHERE id IN (SELECT value FROM json_each(?));

-- name: append_events
INSERT INTO events (position, body) VALUES (?, ?);

-- name: trim_events
DELETE FROM events WHERE position <= ?;

-- name: first_event
SELECT position, body FROM events ORDER BY position LIMIT 1;

-- name: last_event
SELECT max(position) FROM events;

-- name: events
SELECT position, body FROM events WHERE position > ? ORDER BY position;

-- name: runs_by_id
SELECT id, rule, task, digest, state, since, created, reason, ended, value, error, attempt, answers, python, policy,
    reasons, control, deadline, slot
FROM runs WHERE id IN (SELECT value FROM json_each(?));

-- name: new_tasks
SELECT id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason FROM tasks
WHERE state = 'new' AND id > ? ORDER BY id LIMIT ?;

-- name: unfinished_runs
SELECT id, rule, task, digest, state, since, created, reason, ended, value, error, attempt, answers, python, policy,
    reasons, control, deadline, slot
FROM runs INDEXED BY runs_state
WHERE (state = 'queued' OR state = 'running' OR state = 'waiting' OR state = 'held' OR state = 'failed')
    AND state IN ('queued', 'running') AND id > ?
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

-- name: add_cells
INSERT INTO matrix (day, by, rule, count, last) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (day, by, rule) DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last);

-- name: add_durations
INSERT INTO matrix_durations (day, by, rule, class, count) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (day, by, rule, class) DO UPDATE SET count = count + excluded.count;

-- name: add_edges
INSERT INTO edges (rule, task, via, count, runs, first, last, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (rule, task, via) DO UPDATE SET
    count = count + excluded.count,
    runs = runs + excluded.runs,
    first = min(first, excluded.first),
    last = max(last, excluded.last),
    digest = excluded.digest;

-- name: add_delays
INSERT INTO edge_delays (rule, task, via, class, count) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (rule, task, via, class) DO UPDATE SET count = count + excluded.count;

-- name: age_cells
INSERT INTO matrix (day, by, rule, count, last)
SELECT 0, by, rule, sum(count), max(last) FROM matrix WHERE day > 0 AND day < ?1 GROUP BY by, rule
ON CONFLICT (day, by, rule) DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last);

-- name: age_durations
INSERT INTO matrix_durations (day, by, rule, class, count)
SELECT 0, by, rule, class, sum(count) FROM matrix_durations WHERE day > 0 AND day < ?1 GROUP BY by, rule, class
ON CONFLICT (day, by, rule, class) DO UPDATE SET count = count + excluded.count;

-- name: forget_cells
DELETE FROM matrix WHERE day > 0 AND day < ?1;

-- name: forget_durations
DELETE FROM matrix_durations WHERE day > 0 AND day < ?1;

-- name: matrix
SELECT by, rule, sum(count), max(last) FROM matrix WHERE day >= ? GROUP BY by, rule;

-- name: matrix_durations
SELECT by, rule, class, sum(count) FROM matrix_durations WHERE day >= ? GROUP BY by, rule, class;

-- name: edges
SELECT rule, task, via, count, runs, first, last, digest FROM edges;

-- name: edge_delays
SELECT rule, task, via, class, count FROM edge_delays;

-- name: edge_names
SELECT rule, task, via FROM edges;
-- name: edit_tasks
UPDATE tasks SET data = ? WHERE id = ?;

-- name: put_breakpoint
INSERT OR REPLACE INTO breakpoints (name, body) VALUES (?, ?);

-- name: remove_breakpoint
DELETE FROM breakpoints WHERE name = ?;

-- name: remove_passes
DELETE FROM passes WHERE breakpoint = ?;

-- name: put_passes
INSERT OR IGNORE INTO passes (thing, seq, breakpoint) VALUES (?, ?, ?);

-- name: put_stepping
INSERT OR IGNORE INTO stepping (thing) VALUES (?);

-- name: remove_stepping
DELETE FROM stepping WHERE thing = ?;

-- name: put_token
INSERT INTO tokens (name, hash, role, created) VALUES (?, ?, ?, ?);

-- name: remove_token
DELETE FROM tokens WHERE name = ?;

-- name: tokens
SELECT name, hash, role, created FROM tokens;

-- name: append_audit
INSERT INTO audit (at, who, verb, thing, request, detail) VALUES (?, ?, ?, ?, ?, ?);

-- name: breakpoints
SELECT body FROM breakpoints ORDER BY name;

-- name: passed
SELECT breakpoint FROM passes WHERE thing = ? AND seq = ?;

-- name: stepping
SELECT thing FROM stepping;

-- name: audit
SELECT id, at, who, verb, thing, request, detail FROM audit
WHERE (?1 IS NULL OR thing = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3;

-- name: requested
SELECT at, who, verb, thing, request, detail FROM audit WHERE request = ? ORDER BY id;

-- name: old_roots
SELECT id FROM tasks WHERE parent IS NULL AND id > ? AND created < ? ORDER BY id LIMIT ?;

-- name: finished_trees
-- The trees in which everything has ended before a moment.
SELECT k.value FROM json_each(?1) k
WHERE NOT EXISTS (
    SELECT 1 FROM tasks WHERE id = k.value
    AND (since >= ?2 OR state NOT IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled'))
) AND NOT EXISTS (
    SELECT 1 FROM tasks INDEXED BY tasks_root WHERE root = k.value AND parent IS NOT NULL
    AND (since >= ?2 OR state NOT IN ('done', 'failed', 'unmatched', 'dropped', 'cancelled'))
) AND NOT EXISTS (
    SELECT 1 FROM tasks t INDEXED BY tasks_root JOIN runs r ON r.task = t.id
    WHERE t.root = k.value AND t.parent IS NOT NULL AND r.state NOT IN ('done', 'failed', 'cancelled')
) AND NOT EXISTS (SELECT 1 FROM runs WHERE task = k.value AND state NOT IN ('done', 'failed', 'cancelled'));

-- name: tasks_of_trees
SELECT value FROM json_each(?1)
UNION ALL SELECT t.id FROM json_each(?1) k JOIN tasks t INDEXED BY tasks_root ON t.root = k.value
WHERE t.parent IS NOT NULL;

-- name: runs_of_tasks
SELECT r.id FROM json_each(?) k JOIN runs r ON r.task = k.value;

-- name: remove_journals
DELETE FROM journal WHERE run IN (SELECT value FROM json_each(?));

-- name: remove_logs
DELETE FROM logs WHERE run IN (SELECT value FROM json_each(?));

-- name: remove_runs
DELETE FROM runs WHERE id IN (SELECT value FROM json_each(?));

-- name: remove_tasks
DELETE FROM tasks WHERE id IN (SELECT value FROM json_each(?));

-- name: remove_passes_of
DELETE FROM passes WHERE thing IN (SELECT value FROM json_each(?));

-- name: prune_sources
DELETE FROM sources WHERE digest NOT IN (SELECT value FROM json_each(?)) AND digest NOT IN (SELECT digest FROM runs);

-- name: prune_audit
DELETE FROM audit WHERE at < ?;

-- name: newest_data
SELECT name, data FROM tasks ORDER BY id DESC LIMIT ?;
