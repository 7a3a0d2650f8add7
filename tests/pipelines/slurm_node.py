"""A Slurm of one node on 127.0.0.1: munged, slurmctld and slurmd as children of the test process.

They run in the foreground, without root, systemd or control groups, at ports that were free, and
end with the process that started them. The node says that it has eight cores, so that tasks of an
array run side by side.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE"}

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=5
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
InactiveLimit=0
MinJobAge=3600
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""cred_expire is also how long a requeued job is held back; jobs that ended stay listed for
MinJobAge seconds."""


def missing_programs() -> list[str]:
    """What of Slurm and munge is not installed here."""
    return [name for name in PROGRAMS if shutil.which(name, path=_SEARCH) is None]


class SlurmNode:
    """A running Slurm.

    Attributes:
        env: environment in which sbatch, squeue and scontrol talk to it.
    """

    def __init__(self) -> None:
        """Starts it.

        Raises:
            RuntimeError: it does not come up; with the last lines of its logs.
        """
        # Not pytest's folder: munge wants folders that everybody may enter, and short socket names.
        self._dir = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._dir.chmod(0o711)
        self._children: list[subprocess.Popen[bytes]] = []
        self.env = os.environ | {"SLURM_CONF": str(self._dir / "slurm.conf"), "PATH": _SEARCH}
        try:
            self._configure()
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D", "-N", _host())
            self._wait_until_idle()
        except BaseException:
            self.stop()
            raise

    def __call__(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Runs a client (`sbatch`, `scontrol`, a script that calls them); its output.

        Raises:
            AssertionError: it failed; with what it printed.
        """
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.env | dict(env or {}), check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def jobs(self) -> dict[str, dict[str, str]]:
        """What Slurm says of every job: "12" or "12_3" (task 3 of array 12) -> fields of `scontrol
        show job`. Tasks that are still waiting together are one entry, "12_[0-3]"."""
        found = {}
        for line in self("scontrol", "--oneliner", "show", "job").splitlines():
            pairs = [pair.partition("=") for pair in line.split()]
            fields = {name: value for name, _, value in pairs}
            if "JobId" in fields:
                tasks = fields.get("ArrayTaskId", "")
                alone = tasks.isdigit() or not tasks
                array = f"{fields.get('ArrayJobId')}_{tasks if alone else f'[{tasks}]'}"
                found[array if tasks else fields["JobId"]] = fields
        return found

    def wait(self, job_ids: Iterable[str], timeout_s: float = 300) -> dict[str, dict[str, str]]:
        """Waits until jobs, array jobs with all of their tasks, have ended.

        Returns:
            Their entries of `jobs`.

        Raises:
            AssertionError: they have not ended in time; with their states.
        """
        ids, until = set(job_ids), time.monotonic() + timeout_s
        while True:
            found = {name: job for name, job in self.jobs().items() if name.split("_")[0] in ids}
            if found and all(job["JobState"] in _ENDED for job in found.values()):
                return found
            states = {name: f"{job['JobState']} {job['Reason']}" for name, job in found.items()}
            assert time.monotonic() < until, f"jobs still run: {states}{self._logs()}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends the daemons, slurmd first, and removes their files."""
        for child in reversed(self._children):
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self._dir / name).mkdir(mode=0o755)
        key = self._dir / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        controller, node = _free_ports(2)
        user = pwd.getpwuid(os.getuid()).pw_name
        text = _CONF.format(
            dir=self._dir, host=_host(), user=user, controller=controller, node=node
        )
        (self._dir / "slurm.conf").write_text(text)

    def _start_munge(self) -> None:
        files = [
            f"--{what}={self._dir}/munge.{what.removesuffix('-file')}"
            for what in ("socket", "key-file", "pid-file", "log-file", "seed-file")
        ]
        self._start("munged", "--foreground", *files)
        self._until((self._dir / "munge.socket").exists, "munged")

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=_SEARCH)
        assert path is not None, program
        with (self._dir / f"{program}.output").open("wb") as log:
            self._children.append(
                subprocess.Popen(
                    [path, *arguments],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509
                )
            )

    def _wait_until_idle(self) -> None:
        def idle() -> bool:
            done = subprocess.run(
                ["sinfo", "--noheader", "--format=%t"],
                capture_output=True,
                text=True,
                env=self.env,
                check=False,
            )
            return done.stdout.strip() == "idle"

        self._until(idle, "slurmd")

    def _until(self, ready, what: str, timeout_s: float = 40) -> None:
        until = time.monotonic() + timeout_s
        while not ready():
            ended = any(child.poll() is not None for child in self._children)
            if ended or time.monotonic() > until:
                raise RuntimeError(f"{what} does not come up{self._logs()}")
            time.sleep(0.1)

    def _logs(self) -> str:
        """The last lines of every daemon's log."""
        tails = []
        for path in sorted([*self._dir.glob("*.output"), *self._dir.glob("*.log")]):
            tails += [f"\n{path.name}: {line}" for line in path.read_text().splitlines()[-4:]]
        return "".join(tails)


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _free_ports(n: int) -> list[int]:
    """Ports of 127.0.0.1 that are free at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _end_with_parent() -> None:
    """Asks the kernel to end this process when the one that started it is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
