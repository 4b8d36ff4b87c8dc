"""The command `scriptrules`, also as ``python -m scriptrules``."""

from __future__ import annotations


def main() -> None:
    """Run the command line and end the process with its exit status: 0 ok, 1 findings or failed, 2 usage."""
    from scriptrules.cli.root import cli

    cli.main(prog_name="scriptrules")


if __name__ == "__main__":
    main()
