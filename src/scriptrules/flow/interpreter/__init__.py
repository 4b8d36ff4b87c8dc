"""How a rule is followed without being executed: an abstract interpreter. `machine.py` is where to begin."""
