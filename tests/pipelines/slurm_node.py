"""A Slurm cluster of one node, from Debian's packages (slurmctld, slurmd, munge), as root, on free ports and in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.pipelines.processes import free_port, until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")


def missing() -> list[str]:
    """What is not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


class SlurmNode:
    """Runs from its making until `stop`; `settings` make the commands find it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(parents=True, mode=0o755)
        host = socket.gethostname().split(".")[0]
        conf = folder / "slurm.conf"
        memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        conf.write_text(
            f"""ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
DefMemPerCPU=100
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory={memory_mb - 100} Gres=gpu:2 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
        )
        # Two devices that are always there; nobody opens them.
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        self.settings = {"SLURM_CONF": str(conf)}
        self._env = {**os.environ, **self.settings, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        try:
            self._begin(conf, host)
        except BaseException:
            self.stop()
            raise

    def _begin(self, conf: Path, host: str) -> None:
        folder = self._folder
        places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._start(
            "munged", "--foreground", "--force", *(f"--{name}={folder}/munge/{file}" for name, file in places.items())
        )
        until(lambda: (folder / "munge" / "socket").exists())
        self._start("slurmctld", "-D", "-f", str(conf))
        self._start("slurmd", "-D", "-f", str(conf), "-N", host)
        until(self._is_up)

    def _start(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as output:
            self._processes.append(subprocess.Popen(command, env=self._env, stdout=output, stderr=output))

    def _is_up(self) -> bool:
        for process in self._processes:
            assert process.poll() is None, self.said()
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=self._env, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() in ("idle", "mixed", "allocated")

    def said(self) -> str:
        """The ends of the logs, for a test that failed."""
        files = [*self._folder.glob("*.log"), *self._folder.glob("*.out")]
        return "\n".join(f"== {file.name}\n{file.read_text()[-2000:]}" for file in files)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
