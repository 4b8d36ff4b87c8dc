-- Who may use the API: the hash of each token, never the token.
CREATE TABLE tokens (name TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL, created INTEGER NOT NULL)
WITHOUT ROWID;
