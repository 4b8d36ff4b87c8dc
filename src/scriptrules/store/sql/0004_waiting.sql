-- A task's place in the order of arrival: its commit as new, or its release; 0 while it has not arrived.
ALTER TABLE tasks ADD COLUMN arrived INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_arrived ON tasks (name, arrived);

-- Shapes of what is received for which looking through all tasks of a name was too dear, and their tasks since then.
CREATE TABLE shapes (shape TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE arrivals (key TEXT NOT NULL, place INTEGER NOT NULL, task TEXT NOT NULL, PRIMARY KEY (key, place))
WITHOUT ROWID;
CREATE INDEX arrivals_task ON arrivals (task);
CREATE TRIGGER arrivals_gone AFTER DELETE ON tasks BEGIN DELETE FROM arrivals WHERE task = OLD.id; END;

CREATE INDEX wakes_waiting ON wakes (key) WHERE kind IN ('receive', 'tree', 'branch');
