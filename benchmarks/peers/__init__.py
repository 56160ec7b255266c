"""Other packages' implementations, in an environment of their own: `make peers` fills .peers."""
