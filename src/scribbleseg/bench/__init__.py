"""Result tables: one file says which trainings, their results are JSON, and the page is made from those."""
