"""Readers of data sets, one for each kind of source: names, folders, parquet files, the Hub, datasets in Python.

``classmates.data.load`` chooses among them. What they share: ``listing`` (images found, then read), ``images`` (image
files), ``cache``, ``paths``, ``walking``, ``columns`` and ``published_files``.
"""
