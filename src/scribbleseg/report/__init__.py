"""The report: one self-contained file about one or several runs."""
