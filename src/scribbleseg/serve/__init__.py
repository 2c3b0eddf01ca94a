"""The prediction server: a model behind an address, for programs of any kind."""
