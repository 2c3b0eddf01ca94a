"""Look at a data set before hours of training are spent on it: what is in it, what is wrong with it, and what to do."""
