"""Moves tasks through rules: pure decisions (`transitions`), and the shell that carries them out (`supervisor`)."""
