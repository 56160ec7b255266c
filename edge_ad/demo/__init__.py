"""The demonstration: a procedural camera of machined parts and the page that shows what came out."""
