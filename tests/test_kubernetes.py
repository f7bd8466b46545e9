"""Cells on Kubernetes: the commands and manifests, read by XPK's parser and Kubernetes' schema."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from launch.backend import QUEUED, RUNNING, Job
from launch.gke import Gke
from launch.jobset import JobSet
from launch.kubernetes import name_of
from tests.errors import user_error

ROOT = pathlib.Path(__file__).resolve().parent.parent
_OPTIONS = ["--cluster=c", "--tpu-type=v5litepod-16", "--docker-image=image:1"]
_POD = {
  "containers": [
    {"name": "tttjax", "image": "image:1", "resources": {"limits": {"nvidia.com/gpu": 8}}}
  ],
  "nodeSelector": {"gpu": "h200"},
}


@pytest.fixture
def jobs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "my config.py").write_text("")
  return [
    Job(
      (
        *(sys.executable, "-m", "tttjax.main", "--config=my config.py:rates"),
        *(f"--config.seeds={i}", "--config.strategies=qttt(steps=8)", f"--workdir=runs/a/{i}"),
      ),
      tmp_path / "runs" / "logs" / f"{i}.log",
    )
    for i in range(2)
  ]


@pytest.fixture
def pod(tmp_path):
  path = tmp_path / "pod.yaml"
  path.write_text(yaml.safe_dump(_POD))
  return path


def gke(jobs, options=_OPTIONS):
  return Gke([job.log for job in jobs], options, {"CACHE": "/shared/cache"}, True)


def jobset(jobs, pod, nodes=1, queue=""):
  return JobSet([job.log for job in jobs], pod, nodes, queue, {}, True)


@pytest.fixture
def commands(tmp_path, monkeypatch):
  """xpk and kubectl as programs that write down how they were called."""
  folder = tmp_path / "bin"
  folder.mkdir()
  (tmp_path / "jobsets.json").write_text('{"items": []}')
  for name in ("xpk", "kubectl"):
    path = folder / name
    path.write_text(
      f"#!{sys.executable}\n"
      "import json, sys\n"
      f"given = sys.stdin.read() if '--filename=-' in sys.argv else ''\n"
      f"open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps([{name!r}, sys.argv[1:], given])"
      " + '\\n')\n"
      f"if 'get' in sys.argv: print(open({str(tmp_path / 'jobsets.json')!r}).read())\n"
      "if any('refuse' in word for word in sys.argv): sys.exit('it is refused')\n"
    )
    path.chmod(0o755)
  monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

  def calls():
    path = tmp_path / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

  calls.jobsets = lambda *items: (tmp_path / "jobsets.json").write_text(
    json.dumps({"items": list(items)})
  )
  return calls


def item(name, suspend=False, ended=None):
  conditions = [{"type": ended, "status": "True"}] if ended else []
  return {
    "metadata": {"name": name},
    "spec": {"suspend": suspend},
    "status": {"conditions": conditions},
  }


def test_a_cell_is_a_workload_that_is_started_again_on_42(jobs, tmp_path):
  first, second = (shlex.split(line) for line in gke(jobs).script(jobs).splitlines())
  assert first[:3] == ["xpk", "workload", "create"]
  options = dict(word.lstrip("-").split("=", 1) for word in first[3:])
  assert options["restart-on-exit-codes"] == "42" and options["max-restarts"] == "50"
  assert options["cluster"] == "c" and options["docker-image"] == "image:1"
  assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", options["workload"])
  assert len(options["workload"]) <= 40 and options["workload"] not in " ".join(second)
  assert shlex.split(options["command"]) == [
    *("env", "CACHE=/shared/cache", "python", "-m", "tttjax.main"),
    f"--config={tmp_path}/my config.py:rates",
    *("--config.seeds=0", "--config.strategies=qttt(steps=8)", f"--workdir={tmp_path}/runs/a/0"),
  ]


def test_several_gpu_nodes_of_a_workload_find_each_other(jobs):
  options = ["--cluster=c", "--device-type=h200-141gb-8", "--docker-image=i"]
  alone, together = (gke(jobs, [*options, f"--num-nodes={n}"]).script(jobs) for n in (1, 2))
  assert "coordinator" not in alone
  command = next(w for w in shlex.split(together.splitlines()[0]) if w.startswith("--command="))
  assert command.endswith(" --num_processes=$NNODES --process_id=$NODE_RANK")


def test_several_pods_of_a_jobset_find_each_other(jobs, pod):
  documents = list(yaml.safe_load_all(jobset(jobs, pod, nodes=4, queue="q").script(jobs)))
  assert len(documents) == 2
  name, spec = documents[0]["metadata"]["name"], documents[0]["spec"]
  assert documents[0]["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
  (group,) = spec["replicatedJobs"]
  job = group["template"]["spec"]
  assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (4, 4, 0)
  (container,) = job["template"]["spec"]["containers"]
  assert container["resources"] == _POD["containers"][0]["resources"]
  line = container["command"][2]
  assert line.startswith("exec python -m tttjax.main ")
  assert f"--coordinator={name}-{group['name']}-0-0.{name}:8476 --num_processes=4" in line
  assert line.endswith('--process_id="$JOB_COMPLETION_INDEX"')
  one = next(yaml.safe_load_all(jobset(jobs, pod).script(jobs)))
  assert "--coordinator" not in yaml.safe_dump(one)


def test_submitting_watching_and_cancelling(jobs, pod, commands):
  for place in (gke(jobs), jobset(jobs, pod)):
    place.submit(jobs)
  (xpk, *_), (kubectl, words, manifest) = commands()[0], commands()[-1]
  assert (xpk, kubectl, words) == ("xpk", "kubectl", ["apply", "--filename=-"])
  assert manifest.count("kind: JobSet") == 2
  first, second = map(name_of, jobs)
  for place in (gke(jobs), jobset(jobs, pod)):
    commands.jobsets(item(first), item("another"), item(second, suspend=True))
    assert [place.under_way(job.log) for job in jobs] == [RUNNING, QUEUED]
    assert place.cancel() == 2
    assert commands()[-1][1] == ["delete", "jobset", "--wait=false", first, second]
    commands.jobsets(item(first, ended="Completed"), item(second, ended="Failed"))
    assert [place.under_way(job.log) for job in jobs] == [None, None]


@pytest.mark.parametrize(
  "options, words",
  [
    ([], "--backend=gke needs --xpk=--cluster"),
    (["--cluster=c", "--docker-image=i"], "needs --xpk=--tpu-type"),
    ([*_OPTIONS, "--command=x"], "the launcher sets command itself"),
    ([*_OPTIONS, "zone"], "--xpk=zone: give an option"),
  ],
)
def test_options_of_xpk_are_checked(jobs, options, words):
  with user_error(words):
    gke(jobs, options)


@pytest.mark.parametrize(
  "text, words",
  [
    (None, "No such file"),
    ("a: [", "no YAML"),
    ("containers: []", "one container, of an image"),
    ("- 1", "one container, of an image"),
    ("containers: [{name: a}]", "one container, of an image"),
  ],
)
def test_pods_that_are_none_are_refused(jobs, tmp_path, text, words):
  path = tmp_path / "bad.yaml"
  if text is not None:
    path.write_text(text)
  with user_error(f"--pod={path}", words):
    jobset(jobs, path)


def test_what_the_cluster_refuses_is_said(jobs, pod, commands, monkeypatch):
  with user_error("--backend=gke: xpk failed (it is refused)"):
    gke(jobs, [*_OPTIONS, "--project=refuse"]).submit(jobs)
  monkeypatch.setenv("PATH", "/nowhere")
  with user_error("--backend=jobset: there is no command kubectl here; install it"):
    jobset(jobs, pod).under_way(jobs[0].log)


@pytest.mark.parametrize(
  "options, words",
  [
    (["--backend=gke", *(f"--xpk={option}" for option in _OPTIONS)], "xpk workload create"),
    (["--backend=jobset", "--pod=pod.yaml", "--nodes=2"], "kind: JobSet"),
  ],
)
def test_a_dry_run_needs_no_cluster_and_says_hours(pod, tmp_path, options, words):
  (tmp_path / "sweep.py").write_text("get_sweep = lambda: [{'seeds': (0,)}, {'seeds': (1,)}]")
  own = "--config=configs/quickstart.py", "--sweep=sweep.py", "--name=x", "--flops_per_second=1e12"
  done = subprocess.run(
    [sys.executable, "-m", "launch.sweep", *own, "--dry_run", *options],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": "/nowhere"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout.count(words) == 2 and "not started" in done.stdout
  assert re.search(r"at 1.0e\+12 model FLOP/s: [\d.]+ hours", done.stdout)
  assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--backend=gke", "--sbatch=--gpus=1"], "--sbatch is for --backend=slurm"),
    (["--backend=slurm", "--nodes=2"], "--nodes is for --backend=jobset"),
    (["--backend=jobset"], "--backend=jobset needs --pod=FILE"),
    (["--backend=gke", "--jobs=2"], "--jobs is not for --backend=gke"),
    (["--cancel"], "--cancel is for a scheduler"),
  ],
)
def test_flags_that_are_for_another_backend_are_refused(tmp_path, arguments, words):
  done = subprocess.run(
    [sys.executable, "-m", "launch.sweep", "--sweep=x.py", "--name=x", *arguments],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2 and words in done.stderr


# By what clusters use. ----------------------------------------------------------------------------

# Properties of jobset.x-k8s.io/v1alpha2 and its parts that are not those of a Job.
_JOBSET = {
  "spec": "coordinator failurePolicy managedBy network replicatedJobs startupPolicy successPolicy"
  " suspend ttlSecondsAfterFinished volumeClaimPolicies",
  "network": "enableDNSHostnames publishNotReadyAddresses subdomain",
  "failurePolicy": "maxRestarts restartStrategy rules",
  "rules": "action name onJobFailureMessagePatterns onJobFailureReasons targetReplicatedJobs",
  "replicatedJobs": "dependsOn groupName name replicas template",
}


def _python():
  """A Python that XPK takes."""
  candidates = [f"python3.{minor}" for minor in (14, 13, 12)]
  homes = sorted(pathlib.Path.home().glob(".pyenv/versions/3.1[234]*/bin/python3"), reverse=True)
  found = [shutil.which(name) for name in candidates] + list(map(str, homes))
  for path in filter(None, found):
    if not subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode:
      return path
  return None


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
  """Programs of XPK and a validator of Kubernetes' schemas."""
  python = _python()
  if python is None:
    pytest.skip("XPK needs Python 3.12 or later, and there is none here")
  folder = tmp_path_factory.mktemp("venv")
  subprocess.run([python, "-m", "venv", folder], check=True)
  command = [folder / "bin/python", "-m", "pip", "install", "-q", "xpk", "kubernetes-validate"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    pytest.skip(f"xpk and kubernetes-validate cannot be installed here: {done.stderr[-300:]}")
  return folder / "bin"


def _check_jobset(document, venv, tmp_path):
  assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and document["kind"] == "JobSet"
  spec = document["spec"]
  parts = {name: [spec.get(name)] for name in ("network", "failurePolicy")}
  parts |= {"spec": [spec], "replicatedJobs": spec["replicatedJobs"]}
  parts["rules"] = spec["failurePolicy"].get("rules", [])
  for name, own in parts.items():
    for part in filter(None, own):
      assert part.keys() <= set(_JOBSET[name].split()), name
  for group in spec["replicatedJobs"]:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **group["template"]}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    command = [venv / "kubernetes-validate", "--strict", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_workloads_are_what_xpk_and_kubernetes_take(jobs, pod, venv, tmp_path):
  line = gke(jobs, [*_OPTIONS, "--project=p", "--zone=us-east5-b"]).script(jobs).splitlines()[0]
  made = tmp_path / "made.yaml"
  dry = ["--dry-run", "--skip-validation", f"--output-manifest-file={made}"]
  done = subprocess.run(
    [venv / "xpk", *shlex.split(line)[1:], *dry], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout + done.stderr
  (document,) = filter(None, yaml.safe_load_all(made.read_text()))
  assert "--config.seeds=0" in made.read_text()
  (group,) = document["spec"]["replicatedJobs"]
  assert document["spec"]["failurePolicy"]["maxRestarts"] == 50
  (rule,) = group["template"]["spec"]["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"]["values"][0] == 42
  for document in yaml.safe_load_all(jobset(jobs, pod, nodes=2, queue="q").script(jobs)):
    _check_jobset(document, venv, tmp_path)
  bad = next(yaml.safe_load_all(jobset(jobs, pod).script(jobs)))
  bad["spec"]["replicatedJobs"][0]["template"]["spec"]["completion"] = 2  # the check can fail
  with pytest.raises(AssertionError, match="completion"):
    _check_jobset(bad, venv, tmp_path)
