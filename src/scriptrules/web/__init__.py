"""The HTTP surface: what comes in (`intake`), how things look (`scriptrules.supervisor.shapes`), and the app."""
