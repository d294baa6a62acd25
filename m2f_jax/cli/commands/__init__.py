"""The subcommands, a module each, imported when it runs."""
