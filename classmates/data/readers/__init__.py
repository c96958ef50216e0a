"""Readers of data sets, one for each kind of source: names, folders, parquet files, tar files, the Hub,
datasets in Python.

``classmates.data.load`` chooses among them. What they share: ``listing`` (images found, then read), ``images`` and
``jpeg`` (image files), ``cache``, ``remote`` (copies of what lies at an address), ``paths``, ``walking``, ``columns``
and ``published_files``.
"""
