-- A task's place in the order of arrival: its commit as new, or its release; 0 while it has not arrived.
ALTER TABLE tasks ADD COLUMN arrived INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_arrived ON tasks (name, arrived);

CREATE INDEX wakes_waiting ON wakes (key) WHERE kind IN ('receive', 'tree', 'branch');
