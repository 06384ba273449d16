"""Labels from any ASE calculator, kept in a database."""
