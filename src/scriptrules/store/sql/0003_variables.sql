-- `root` is the task at the root of the tree that a variable belongs to; '' for the store's own.
-- A secret has a version and no value: its values are in `secrets`, sealed.
CREATE TABLE variables (
    root TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB,
    version INTEGER,
    since INTEGER NOT NULL,
    by TEXT,
    PRIMARY KEY (root, name)
) WITHOUT ROWID;

-- `source` is the source of variables that a value came from; '' for what people have set.
CREATE TABLE secrets (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    sealed BLOB NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;

-- Which runs have loaded which value: it is kept as long as one of them is, and given to no other run.
CREATE TABLE secret_uses (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (name, version, run)
) WITHOUT ROWID;
