"""A SLURM of one node on this machine: real daemons, with files and ports of their own."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
_SECONDS = 60


def why_not() -> str:
  """Why there is none here, in words; '' where one can be started."""
  missing = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
  if missing:
    return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
  return "" if os.geteuid() == 0 else "SLURM's daemons are started by root"


def _path() -> str:
  return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_ports(number: int) -> list[int]:
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
    for one in sockets:
      one.bind(("127.0.0.1", 0))
    return [one.getsockname()[1] for one in sockets]


class Cluster:
  """The daemons, from `start` to `stop`; commands find them through `environment`."""

  def __init__(self, folder: pathlib.Path, cpus: int):
    self._folder, self._processes = folder, []
    self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    self._write(cpus)

  def _write(self, cpus: int) -> None:
    folder, (controller, daemon) = self._folder, _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool"):
      (folder / name).mkdir()
    settings = {
      "ClusterName": "tests",
      "SlurmctldHost": f"{host}(127.0.0.1)",
      "SlurmUser": "root",
      "SlurmctldPort": controller,
      "SlurmdPort": daemon,
      "AuthType": "auth/munge",
      "CredType": "cred/munge",
      # A job that is queued again waits for its old credential to expire: 120 s by default.
      "AuthInfo": f"socket={folder}/munge.socket,cred_expire=5",
      "StateSaveLocation": folder / "state",
      "SlurmdSpoolDir": folder / "spool",
      "SlurmctldPidFile": folder / "slurmctld.pid",
      "SlurmdPidFile": folder / "slurmd.pid",
      "SlurmctldLogFile": folder / "slurmctld.log",
      "SlurmdLogFile": folder / "slurmd.log",
      "ProctrackType": "proctrack/linuxproc",
      "TaskPlugin": "task/none",
      "MpiDefault": "none",
      "SelectType": "select/cons_tres",
      "SelectTypeParameters": "CR_CPU",
      "ReturnToService": 2,
      "JobRequeue": 1,
      "KillWait": 5,
      "SlurmdParameters": "config_overrides",  # more CPUs than the machine has
      "SchedulerParameters": "sched_interval=1,batch_sched_delay=0,bf_interval=1,requeue_delay=0",
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines += [
      f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN",
      f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

  def start(self) -> None:
    folder = self._folder
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    self._run("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
    self._wait(lambda: (folder / "munge.socket").exists())
    self._run("slurmctld", "-D")
    self._run("slurmd", "-D")
    self._wait(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T", check=False))

  def _run(self, *command: str) -> None:
    with open(self._folder / f"{command[0]}.out", "wb") as out:
      self._processes.append(
        subprocess.Popen(
          command, env=self.environment, stdout=out, stderr=out, start_new_session=True
        )
      )

  def _wait(self, condition) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
      dead = [p.args[0] for p in self._processes if p.poll() is not None]
      said = "\n".join(
        path.read_text(errors="replace")[-2000:] for path in self._folder.glob("*.out")
      )
      assert not dead and time.monotonic() < deadline, (dead, said)
      time.sleep(0.2)

  def ask(self, *command: str, check: bool = True) -> str:
    """What one of SLURM's commands prints."""
    done = subprocess.run(
      command, env=self.environment, capture_output=True, text=True, check=check, timeout=_SECONDS
    )
    return done.stdout

  def stop(self) -> None:
    """Ends what still runs, which would outlive the daemons, then them."""
    self.ask("scancel", "--me", "--full", "--signal=KILL", check=False)
    with contextlib.suppress(AssertionError):
      self._wait(lambda: not self.ask("squeue", "--me", "--noheader", check=False))
    for process in reversed(self._processes):
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
