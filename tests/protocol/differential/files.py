"""Steps about artifacts: the proxy and the list of a run."""

from __future__ import annotations

from tests.protocol.differential.api import Api
from tests.protocol.differential.tracking import begin, start

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def play(api: Api) -> None:
    where = begin(api, "files")
    run = start(api, where, "writes")
    root = f"{where}/{run}/artifacts"
    api.send("file up", "PUT", f"{PROXY}/{root}/a.txt", content=b"hello")
    api.send("file up deeper", "PUT", f"{PROXY}/{root}/d/e/b.txt", content=b"deep")
    api.send("file up empty", "PUT", f"{PROXY}/{root}/d/empty", content=b"")
    api.send("file up again", "PUT", f"{PROXY}/{root}/a.txt", content=b"hello again")
    api.send("file up of odd name", "PUT", f"{PROXY}/{root}/s%20p%C3%BC.txt", content=b"x")
    api.send("file down", "GET", f"{PROXY}/{root}/a.txt")
    api.send("file down deeper", "GET", f"{PROXY}/{root}/d/e/b.txt")
    api.send("file down, none", "GET", f"{PROXY}/{root}/none.txt")
    api.get("files at the root", PROXY, path=root)
    api.get("files in a folder", PROXY, path=f"{root}/d")
    api.get("files in no folder", PROXY, path=f"{root}/none")
    api.get("files of the run", "artifacts/list", run_id=run)
    api.get("files of the run's folder", "artifacts/list", run_id=run, path="d")
    api.get("files of the run's no folder", "artifacts/list", run_id=run, path="none")
    for path in ("../x", "/etc", "d/../../x", "%2e%2e/x", "d\\x"):
        api.get(f"files at {path}", "artifacts/list", run_id=run, path=path)
        api.get(f"proxy at {path}", PROXY, path=path)
    api.get("artifact of a run", "/get-artifact", run_id=run, path="d/e/b.txt")
    api.get("artifact of a run, none", "/get-artifact", run_id=run, path="none")
    api.get("artifact of a run, climbing", "/get-artifact", run_id=run, path="../x")
    api.send("file removed", "DELETE", f"{PROXY}/{root}/a.txt")
    api.send("file removed, read", "GET", f"{PROXY}/{root}/a.txt")
    api.get("files at the end", "artifacts/list", run_id=run)
    for verb in ("upload", "download"):
        api.post(f"presigned {verb} of a run", f"artifacts/presigned-{verb}-url", run_id=run, path="a.txt")
        api.post(f"presigned {verb} without path", f"artifacts/presigned-{verb}-url", run_id=run)
        api.post(f"presigned {verb} of no run", f"artifacts/presigned-{verb}-url", run_id="f" * 32, path="a.txt")
    api.post("presigned of nothing", "artifacts/presigned-upload-url", path="a.txt")
    api.post("upload in parts without path", f"/api/2.0/mlflow-artifacts/mpu/create/{root}", num_parts=1)
