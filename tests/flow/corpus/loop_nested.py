"""Loops within loops, over literals."""

on = "night.began"


def main():
    for region in ("north", "south"):
        for kind in ("daily", "weekly"):
            emit(f"{region}.{kind}")


# expects: ["north.daily", "north.weekly", "south.daily", "south.weekly"]
# north.daily   emit  certain
# north.weekly  emit  certain
# south.daily   emit  certain
# south.weekly  emit  certain
