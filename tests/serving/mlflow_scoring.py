"""MLflow's own scoring server for several models, each on its port: `python mlflow_scoring.py FOLDER=PORT …`.

The application is the one that `mlflow models serve` runs; only the process is shared, because each start takes ten seconds.
"""

import sys
import threading

import mlflow.pyfunc
import uvicorn
from mlflow.pyfunc import scoring_server

threads = []
for pair in sys.argv[1:]:
    folder, port = pair.rsplit("=", 1)
    served = scoring_server.init(mlflow.pyfunc.load_model(folder))
    config = uvicorn.Config(served, host="127.0.0.1", port=int(port), log_level="error")
    threads.append(threading.Thread(target=uvicorn.Server(config).run))
    threads[-1].start()
for thread in threads:
    thread.join()
