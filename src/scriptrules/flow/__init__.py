"""Which tasks follow: what each rule can generate, read from its syntax tree, and the graph of all rules."""
