"""A Ray cluster of one machine that serves a configuration; run by the interpreter of .venv/clients/ray.

python tests/serving/ray_cluster.py PORT CONFIGURATION      until standard input ends; prints UP when it serves
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve
from ray._common.utils import import_attr
from ray.serve.schema import ServeDeploySchema


def main() -> None:
    port, configuration = int(sys.argv[1]), json.loads(sys.argv[2])
    # Ray takes misspelt fields in silence: what it read must be what was written.
    read = ServeDeploySchema.model_validate(configuration).model_dump(exclude_unset=True)
    assert read == configuration, read
    ray.init(
        num_cpus=4, include_dashboard=False, object_store_memory=100 << 20, logging_level="warning", log_to_driver=False
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for one in configuration["applications"]:
        made = import_attr(one["import_path"])(one["args"])
        serve.run(made, name=one["name"], route_prefix=one["route_prefix"])
    print("UP", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
