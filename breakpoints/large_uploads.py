"""Stop large uploads before any rule sees them. Set `enabled = True`, or delete the line, to try it."""

on = "upload.finished"
when = lambda task: task["size"] > 1_000_000
enabled = False
