"""Files that are complete whenever they are there, JSON, and folders that one run writes into."""

from m2f_jax.files.json_files import (
    finite,
    parse_json,
    read_json,
    read_json_lines,
    without_collection,
    write_json,
)
from m2f_jax.files.writing import naming, remove_unfinished, replacing

__all__ = [
    "finite",
    "naming",
    "parse_json",
    "read_json",
    "read_json_lines",
    "remove_unfinished",
    "replacing",
    "without_collection",
    "write_json",
]
