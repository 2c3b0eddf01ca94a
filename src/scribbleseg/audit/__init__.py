"""How good are predictions, honestly: a person looks at random points of them, and statistics do the rest."""
