"""What every page is made of: markup, style, tables, pictures and axes; one file, no network."""
