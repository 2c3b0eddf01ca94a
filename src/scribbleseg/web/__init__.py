"""What our servers have in common: who may speak to them, where they listen, how they stop."""
