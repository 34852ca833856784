"""Runs cells in a real kernel, as Jupyter does, and prints what each printed or raised, as JSON. Its Python has nbclient.

python notebook_cells.py '["a = 1", "print(a)"]'
"""

from __future__ import annotations

import json
import sys

import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.loads(sys.argv[1])])
NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
said = []
for cell in notebook.cells:
    texts = [out.get("text") or "\n".join(out.get("traceback", [])) or str(out.get("data", "")) for out in cell.outputs]
    said.append("".join(texts))
sys.stdout.write(json.dumps(said))
