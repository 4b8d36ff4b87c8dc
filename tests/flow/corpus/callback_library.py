"""Functions of a library that call what the rule gives them."""

from lib.flowing import both, each_region

on = "night.began"


def tell(region):
    emit(f"region.{region}")


def main():
    each_region(tell)
    each_region(emit)
    both(lambda: emit("both.first"), lambda: each_region(lambda region: emit(f"both.{region}")))


# expects: ["region.north", "region.south", "north", "south", "both.first", "both.north", "both.south"]
# region.north  emit  certain
# region.south  emit  certain
# north         emit  certain
# south         emit  certain
# both.first    emit  certain
# both.north    emit  certain
# both.south    emit  certain
