"""Export: a model in a form that others can use, checked against the original before it is handed on."""
