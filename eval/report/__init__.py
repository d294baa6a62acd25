"""Reports: a result as one HTML file, with charts, tables and pictures."""
