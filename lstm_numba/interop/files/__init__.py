"""What a weights file holds: one module for each format, none of which executes anything of the file."""
