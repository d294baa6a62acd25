"""How things are measured: options, turns, processes of their own, tables and records."""
