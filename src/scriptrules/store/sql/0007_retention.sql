-- Which tasks belong to a tree. A task from outside is the root of its own, so it needs no entry.
CREATE INDEX tasks_root ON tasks (root) WHERE parent IS NOT NULL;
