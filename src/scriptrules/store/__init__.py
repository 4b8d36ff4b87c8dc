"""Where tasks, runs and journals are kept: a narrow protocol (`protocol`), SQLite (`sqlite`) and a twin in memory."""
