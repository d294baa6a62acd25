"""The sections of a report's page, for each kind of result."""
