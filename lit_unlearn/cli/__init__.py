"""The command line: one file for each command, which parses its options and calls the library."""
