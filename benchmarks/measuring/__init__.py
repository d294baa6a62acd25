"""The parts of measuring that all scripts share: options, timing, processes, tables, records."""
