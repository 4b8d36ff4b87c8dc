-- What a run keeps to, when its timeout passes, and with which others it shares its limit.
ALTER TABLE runs ADD COLUMN control BLOB;
ALTER TABLE runs ADD COLUMN deadline INTEGER;
ALTER TABLE runs ADD COLUMN slot TEXT;

-- How far each schedule has come; `spec` is what it was then, because one that was changed begins anew.
CREATE TABLE marks (name TEXT PRIMARY KEY, spec TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
