"""What the machine could do at best, and how near a graph comes."""
