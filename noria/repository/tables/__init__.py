"""Tables: frames whose versions share what did not change, row by row.

    data.parquet/_table.json            key, schema, the fragments in their order, the layers (model.py)
    data.parquet/fragments/<name>.parquet   rows, named by what they say; cut where the content decides (rows.py, cutting.py)
    data.parquet/layers/<name>.parquet      rows that replace or remove rows of fragments, one file for each commit (layers.py)

A table is a few files of a version like any others, so everything that keeps, sends, checks and collects files does so with
tables. Whoever reads a version sees one Parquet file, `data.parquet` (view.py), or rows (table.py). Invariant: a fragment and a
layer never change; a version is what its `_table.json` composes.
"""
