"""Sister systems' own commands and settings files, said in this trainer's flags; a dialect each."""
