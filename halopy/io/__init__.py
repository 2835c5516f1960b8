"""Reading and writing: FITS images behind a guard, catalogues of targets."""
