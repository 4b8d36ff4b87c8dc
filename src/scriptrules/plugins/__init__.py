"""What plugins can provide (`spec`), how executors look (`executor`), and who finds and calls them (`manager`)."""
