"""Compilation for a device that isn't there: the programs, the device, and the table."""
