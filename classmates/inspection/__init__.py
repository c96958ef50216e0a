"""The inspection of a data set before training: counts, sizes, duplicates, a contact sheet, a suggestion."""
