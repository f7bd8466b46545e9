"""Questions about documents from the shell, on a tiny model and on the embedded one."""

import io
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import smollm2, tiny_run
from tests.errors import user_error
from tttjax.ask import saved_context, terminal
from tttjax.ask.conversation import Conversation, Settings, context_tokens
from tttjax.ask.document_text import context_of
from tttjax.ask.streaming_session import StreamingSession
from tttjax.checkpoint import open_checkpoint
from tttjax.embedded import EMBEDDED
from tttjax.session import Session
from tttjax.strategies import STRATEGIES
from tttjax.tasks import BankLog
from tttjax.ttt.hyperparameters import TTTConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("tiny")
  tiny_run.write(directory)
  return open_checkpoint(directory)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
  """A generated log as a file, and a question about its last balance with the answer."""
  checkpoint = open_checkpoint(EMBEDDED)
  example = BankLog().at(1, 300, checkpoint.tokenizer, True)
  path = tmp_path_factory.mktemp("log") / "log.txt"
  path.write_text(example.context[example.header :], encoding="utf-8")
  question = example.questions[0]
  asked = re.search(r"\[QUESTION\] (.*\?)", question.text)[1]
  return path, asked, question.references[0]


def conversation_of(checkpoint, text="[CONTEXT]\n" + "TX0001 A12>B07 0345\n" * 10, **settings):
  settings = Settings(TTTConfig(steps=3, span=16, learning_rate=1e-3), 6, **settings)
  ids = context_tokens(checkpoint.tokenizer, text, 1024, 300, "none")
  return Conversation(checkpoint, StreamingSession.open(checkpoint), ids, settings)


# Documents. ---------------------------------------------------------------------------------------


def test_one_file_is_the_context_and_several_stand_under_their_names(tmp_path):
  a, b = tmp_path / "a.md", tmp_path / "b.py"
  a.write_text("# Title\n\n")
  b.write_bytes("\ufeffprint('ü')".encode())
  assert context_of([str(a)]).endswith("[CONTEXT]\n# Title\n")
  both = context_of([str(a), str(b)])
  assert f"===== {a} =====\n# Title\n" in both and f"===== {b} =====\nprint('ü')\n" in both


def test_standard_input_is_a_context(monkeypatch):
  monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"some text")))
  assert context_of(["-"]).endswith("some text\n")


def test_a_text_with_instructions_of_its_own_gets_no_others(log):
  assert context_of([str(log[0])]) == log[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
  "content, words",
  [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8"), (b" \n", "nothing in it"), (..., "a dir")],
)
def test_what_is_no_text_is_named(tmp_path, content, words):
  path = tmp_path / "a.txt"
  if content is ...:
    path.mkdir()
  elif content is not None:
    path.write_bytes(content)
  with user_error(str(path), words):
    context_of([str(path)])


def test_too_long_a_context_says_how_long_and_is_cut_on_request(checkpoint):
  text = "TX0001 A12>B07 0345\n" * 200
  ids = lambda cut: context_tokens(checkpoint.tokenizer, text, 1024, 300, cut)
  with user_error("tokens; of the model's 1,024 positions 300", "--cut=middle"):
    ids("none")
  middle, end = ids("middle"), ids("end")
  assert len(middle) == len(end) == 724
  assert np.array_equal(middle[:362], end[:362]) and not np.array_equal(middle, end)


# One adaptation, many questions. ------------------------------------------------------------------


def test_questions_share_one_reading_and_one_adaptation(checkpoint, monkeypatch):
  conversation, calls = conversation_of(checkpoint), []
  plain = Session.adapt
  monkeypatch.setattr(Session, "adapt", lambda *a, **k: calls.append(1) or plain(*a, **k))
  results = [conversation.ask(q, STRATEGIES["qttt"]()) for q in ("balance of A12?", "and B07 now?")]
  assert len(calls) == 1
  first, second = (result.cost.phase_flops(0) for result in results)
  assert first["prefill"] > 0 and first["adapt"] > 0
  assert set(second) == {"generate"} and not results[1].cost.compiled
  assert "read in" in terminal.spent(results[0].cost)
  assert terminal.spent(results[1].cost).startswith("answered in")
  # Another method's cost has its reading too.
  other = conversation.ask("balance of A12?", STRATEGIES["in_context"]()).cost
  assert other.phase_flops(0)["prefill"] == first["prefill"]
  assert results[0].adaptation == results[1].adaptation


def test_another_strategy_does_not_answer_with_the_adapted_weights(checkpoint):
  conversation = conversation_of(checkpoint)
  alone = conversation.ask("a?", STRATEGIES["in_context"]()).predictions
  conversation.ask("a?", STRATEGIES["qttt"]())
  assert conversation.ask("a?", STRATEGIES["in_context"]()).predictions == alone


@pytest.mark.parametrize("name", ["in_context", "qttt", "thinking"])
def test_what_is_streamed_is_what_is_answered(checkpoint, name):
  conversation, stream = conversation_of(checkpoint), io.StringIO()
  whole = conversation.ask("a?", STRATEGIES[name]()).predictions[0]
  conversation.session.show = terminal.Growing(stream)
  streamed = conversation.ask("a?", STRATEGIES[name]()).predictions[0]
  assert streamed == whole
  assert whole.outputs[0].text.startswith(stream.getvalue()[:2])


def test_an_answer_ends_where_it_is_stopped(checkpoint):
  conversation = conversation_of(checkpoint)
  whole = conversation.ask("a?", STRATEGIES["in_context"]()).predictions[0].outputs[0]
  conversation.session.show = lambda text: False
  stopped = conversation.ask("a?", STRATEGIES["in_context"]()).predictions[0].outputs[0]
  assert len(stopped.ids) < len(whole.ids) and whole.ids[: len(stopped.ids)] == stopped.ids


@pytest.mark.parametrize(
  "lines, question, most, remedy",
  [
    (10, "word " * 900, 6, "ask a shorter question"),
    (10, "a?", 1000, "lower --max_new_tokens"),
    (10, "word " * 90, 500, "ask a shorter question"),
    (66, "word " * 60, 6, "cut the context (--cut=middle)"),
  ],
)
def test_what_takes_too_much_room_is_named(checkpoint, lines, question, most, remedy):
  text = "[CONTEXT]\n" + "TX0001 A12>B07 0345\n" * lines
  ids = context_tokens(checkpoint.tokenizer, text, 4096, 300, "none")
  settings = Settings(TTTConfig(steps=3, span=16), most)
  conversation = Conversation(checkpoint, StreamingSession.open(checkpoint), ids, settings)
  with user_error("of the model's 1,024 positions the context", "are needed: too many", remedy):
    conversation.ask(question, STRATEGIES["in_context"]())


def test_an_answer_that_leaves_no_room_for_the_context_is_to_be_shortened(checkpoint):
  text = "TX0001 A12>B07 0345\n" * 20
  with user_error("lower --max_new_tokens, or cut"):
    context_tokens(checkpoint.tokenizer, text, 1024, 900, "none")
  for cut in ("none", "middle", "end"):
    with user_error("which leaves none for the context; lower --max_new_tokens"):
      context_tokens(checkpoint.tokenizer, "TX0001 A12>B07 0345\n" * 9, 1024, 9000, cut)


# On disk. -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_cache", [True, False])
def test_a_saved_context_answers_the_same_without_adapting(
  checkpoint, tmp_path, monkeypatch, with_cache
):
  conversation = conversation_of(checkpoint)
  expected = conversation.ask("a?", STRATEGIES["qttt"]()).predictions
  saved_context.save_context(tmp_path / "s", conversation, "qttt", with_cache)
  loaded = saved_context.load_context(tmp_path / "s", checkpoint, conversation.context)
  assert (loaded.cache is not None) == with_cache
  session = StreamingSession.open(checkpoint)
  again = Conversation(checkpoint, session, loaded.ids, conversation.settings)
  loaded.put_into(session, again.capacity)
  result = again.ask("a?", STRATEGIES["qttt"]())
  assert result.predictions == expected
  assert "adapt" not in result.cost.phase_flops(0)
  assert bool(result.cost.phase_flops(0).get("prefill")) != with_cache


def test_another_model_tokenizer_or_context_is_refused(checkpoint, tmp_path):
  conversation = conversation_of(checkpoint)
  conversation.prepare(STRATEGIES["qttt"]())
  saved_context.save_context(tmp_path, conversation, "qttt", False)
  load = lambda model, ids: saved_context.load_context(tmp_path, model, ids)
  with user_error("--load", "another context"):
    load(checkpoint, conversation.context[:-1])
  with user_error("--load", "another model"):
    load(open_checkpoint(EMBEDDED), None)
  (tmp_path / "fast.safetensors").write_bytes(b"x")
  with user_error("fast.safetensors", "cannot be read"):
    load(checkpoint, None)


def test_where_nothing_can_be_saved_is_known_before_anything_is_computed(tmp_path):
  qttt = STRATEGIES["qttt"]()
  with user_error("--save: in_context leaves nothing to save"):
    saved_context.check_target(tmp_path, STRATEGIES["in_context"](), 4, False)
  with user_error("--save: without steps"):
    saved_context.check_target(tmp_path, STRATEGIES["qttt"](steps=0), 4, False)
  with user_error("--save_cache: a cache without RoPE"):
    saved_context.check_target(tmp_path, STRATEGIES["qttt"](rope=False), 4, True)
  check = lambda path: saved_context.check_target(path, qttt, 4, True)
  check(tmp_path / "not" / "yet")
  file = tmp_path / "mine.txt"
  file.write_text("x")
  with user_error(f"--save={tmp_path}", "something else is in it"):
    check(tmp_path)
  with user_error(f"--save={file}", "is a file"):
    check(file)
  with user_error(f"--save={file / 'below'}", "cannot be written to"):
    check(file / "below")
  with user_error("--save=/proc/x", "/proc cannot be written to"):
    check(pathlib.Path("/proc/x"))
  assert list(tmp_path.iterdir()) == [file]


def test_a_saved_context_is_not_replaced(checkpoint, tmp_path):
  conversation = conversation_of(checkpoint)
  conversation.prepare(STRATEGIES["qttt"]())
  saved_context.save_context(tmp_path, conversation, "qttt", False)
  with user_error(f"--save={tmp_path}", "holds a saved context"):
    saved_context.check_target(tmp_path, STRATEGIES["qttt"](), 4, False)
  assert saved_context.load_context(tmp_path, checkpoint, None).ttt == conversation.settings.ttt


# The program. -------------------------------------------------------------------------------------


def ask(*arguments, **options):
  command = [sys.executable, "-m", "tttjax.ask", *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_it_answers_a_question_about_a_log(log):
  path, question, answer = log
  done = ask(f"--context={path}", f"--question={question}", "--compare", "--max_new_tokens=16")
  assert done.returncode == 0, done.stderr
  assert "in-context" in done.stdout and "qTTT" in done.stdout and answer in done.stdout
  assert "FLOPs" in done.stdout


@pytest.mark.slow
def test_on_a_mesh_it_answers_the_same_and_takes_up_what_was_saved(log, tmp_path):
  path, question, answer = log
  devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  mesh = "--mesh=tensor=2,context=2"
  first = ask(
    mesh, f"--context={path}", f"--save={tmp_path}", "--save_cache", env=os.environ | devices
  )
  assert first.returncode == 0, first.stderr
  for arguments in ([mesh], []):
    env = os.environ | (devices if arguments else {"XLA_FLAGS": ""})
    done = ask(*arguments, f"--load={tmp_path}", f"--question={question}", env=env)
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout


def test_it_finds_a_needle_in_a_text(tmp_path):
  smollm2.skip_without()
  path = tmp_path / "notes.txt"
  filler = "The leaves fall, the river runs, and the day goes on.\n" * 12
  path.write_text(f"{filler}The magic number for brave-otter is 7482913.\n{filler}")
  done = ask(
    "--model=smollm2",
    f"--context={path}",
    "--question=What is the magic number for brave-otter? Reply with the number only.",
    "--steps=2",
    "--span=32",
    "--max_new_tokens=24",
    env=os.environ | {"XLA_FLAGS": ""},
  )
  assert done.returncode == 0, done.stderr
  assert "7482913" in done.stdout
  assert re.search(r"read in .* adapted in .* answered in ", done.stderr)


def test_a_second_start_compiles_nothing(log, tmp_path):
  path, question, _ = log
  given = f"--context={path}", f"--question={question}", "--steps=2", "--max_new_tokens=4"
  env = os.environ | {"TTTJAX_CACHE": str(tmp_path), "XLA_FLAGS": ""}
  programs = lambda: sorted(path.name for path in tmp_path.rglob("xla/*-cache"))
  assert ask(*given, "--nocompilation_cache", env=env).returncode == 0 and not programs()
  assert ask(*given, env=env).returncode == 0
  first = programs()
  assert len(first) > 9  # those that take less than a second too
  assert ask(*given, env=env).returncode == 0 and programs() == first


MISTAKES = [
  ([], "--context is missing"),
  (["--context=/nowhere/a.txt", "--question=a"], "/nowhere/a.txt"),
  (["--context=README.md", "--question=a", "--model=/nowhere"], "/nowhere"),
  (["--context=README.md", "--question=a", "--strategy=magic"], "--strategy: unknown 'magic'"),
  (["--context=README.md", "--question=a", "--save_cache"], "--save_cache needs --save"),
  (["--load=/nowhere", "--question=a"], "/nowhere/context.json"),
  (["--context=LICENSE"], "--question is missing"),
  (["--context=LICENSE", "--question=a", "--max_new_tokens=0"], "--max_new_tokens=0"),
  (["--context=LICENSE", "--question=a", "--mesh=heads=2"], "--mesh=heads=2: give each of data"),
  (["--context=LICENSE", "--question=a", "--mesh=tensor=3"], "--mesh: mesh {'data': 1"),
  (["--context=LICENSE", "--question=a", "--yarn=4"], "--yarn: original must be"),
  (["--context=/nowhere/b.txt", "--question=a"], "--context: /nowhere/b.txt"),
  (["--load=/nowhere/c", "--question=a"], "--load: /nowhere/c/context.json"),
  (["--load=/nowhere", "--question=a", "--steps=3"], "leave --steps out"),
  (
    ["--context=LICENSE", "--question=a", "--strategy=qttt(steps=3)", "--steps=4"],
    "--strategy gives steps already: leave --steps out",
  ),
  (
    ["--context=LICENSE", "--question=a", "--strategy=full_ttt", "--steps=4"],
    "--steps is not for full_ttt: write --strategy='full_ttt(steps=...)'",
  ),
  (["--context=LICENSE", "--question=a", "--yarn_original=9"], "--yarn_original is for --yarn"),
  (["--context=LICENSE", "--question=a", "--steps=-1"], "--steps must be at least 0, not -1"),
  (["--context=LICENSE", "--question=a", "--top_p=2"], "--top_p must be at most 1"),
  (
    ["--context=LICENSE", "--question=a", "--strategy=qttt_other_context"],
    "--strategy=qttt_other_context: it trains on another context",
  ),
  (
    ["--context=LICENSE", "--question=a", "--strategy=qttt(spans=oracle)"],
    "--strategy=qttt: its spans are around the answer",
  ),
  (["--context=LICENSE", "--question=a", "--strategy=retrieve"], "--strategy=retrieve: its spans"),
  (["--context=LICENSE", "--save=LICENSE", "--question=a"], "--save=LICENSE: is a file"),
]
# The imports, which take seconds, once: then a process for each command.
_FORKS = """
import json, os, sys
from tttjax import flags
from tttjax.ask import __main__ as ask
for number, arguments in enumerate(json.loads(sys.argv[1])):
  child = os.fork()
  if child == 0:
    for stream in (1, 2):
      os.dup2(os.open(f"{sys.argv[2]}/{number}.{stream}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = [ask.__file__, *arguments]
    flags.run(ask.main)
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  print(code, flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
  """(exit code, standard output, standard error) of every mistake, by its words."""
  folder = tmp_path_factory.mktemp("outcomes")
  commands = json.dumps([arguments for arguments, _ in MISTAKES])
  done = subprocess.run(
    [sys.executable, "-c", _FORKS, commands, str(folder)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
    stdin=subprocess.DEVNULL,
  )
  read = lambda number, stream: (folder / f"{number}.{stream}").read_text(encoding="utf-8")
  return {
    words: (int(code), read(number, 1), read(number, 2))
    for number, ((_, words), code) in enumerate(zip(MISTAKES, done.stdout.split(), strict=True))
  }


@pytest.mark.parametrize("words", [words for _, words in MISTAKES])
def test_a_mistake_is_one_line(outcomes, words):
  code, out, err = outcomes[words]
  assert code == 2 and words in err and err.count("\n") == 1 and not out


def test_the_program_itself_ends_so():
  done = ask("--context=/nowhere/a.txt", "--question=a")
  assert done.returncode == 2 and "/nowhere/a.txt" in done.stderr and done.stderr.count("\n") == 1


class Terminal:
  """The program on a terminal of its own."""

  def __init__(self, *arguments):
    self.process, self._master = None, None
    master, slave = pty.openpty()
    self.process = subprocess.Popen(
      [sys.executable, "-m", "tttjax.ask", *arguments],
      cwd=ROOT,
      stdin=slave,
      stdout=slave,
      stderr=slave,
      start_new_session=True,
    )
    os.close(slave)
    self._master, self.text = master, ""

  def until(self, words, seconds=120):
    """Reads up to some words."""
    end = time.monotonic() + seconds
    while words not in self.text:
      assert time.monotonic() < end, self.text
      if select.select([self._master], [], [], 1)[0]:
        self.text += os.read(self._master, 4096).decode("utf-8", "replace")
    self.text = self.text.partition(words)[2]

  def type(self, text):
    os.write(self._master, text.encode())


def test_a_question_that_is_too_long_or_stopped_does_not_end_the_session(log):
  """Also where answers stand side by side."""
  path, question, answer = log
  screen = Terminal(f"--context={path}", "--compare", "--steps=2", "--max_new_tokens=12500")
  try:
    screen.until("question> ")
    screen.type("word " * 790 + "\n")
    screen.until("are needed: too many")
    screen.until("question> ")
    screen.type(f"{question}\n")
    time.sleep(3)
    screen.process.send_signal(signal.SIGINT)
    screen.until("question> ")
    assert screen.process.poll() is None
    screen.type("\x04")
    assert screen.process.wait(60) == 0
  finally:
    screen.process.kill()


def test_questions_are_asked_one_by_one_and_ctrl_c_stops_an_answer_only(log):
  path, question, answer = log
  screen = Terminal(f"--context={path}", "--strategy=in_context", "--max_new_tokens=2000")
  try:
    screen.until("question> ")
    screen.type(f"{question}\n")
    screen.until(answer)
    screen.until("question> ")
    screen.type("half a question")
    time.sleep(1)  # until it waits for more
    screen.process.send_signal(signal.SIGINT)
    screen.until("question> ")
    screen.type(f"{question}\n")
    screen.until(answer)
    screen.until("question> ")
    screen.type("\x04")
    assert screen.process.wait(60) == 0
  finally:
    screen.process.kill()


_MANY_INTERRUPTS = """
import os, signal, time
from tttjax import interrupts
from tttjax.ask import terminal
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
interrupts.install(lambda: "ask")
for _ in range(300):
  try:
    with terminal._plain_interrupts():
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(1)
  except KeyboardInterrupt:
    pass
  growing = terminal.Growing(None)
  with terminal.stopping(growing):
    os.kill(os.getpid(), signal.SIGINT)
    while not growing.stopped:
      time.sleep(0.001)
print("alive", flush=True)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""


def test_what_ctrl_c_meant_is_settled_before_it_ends_the_program_again():
  """The thread that ends the program may read of a signal after the block that it was for."""
  done = subprocess.run(
    [sys.executable, "-c", _MANY_INTERRUPTS], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert (done.stdout, done.returncode) == ("alive\n", 130), done.stderr
  assert done.stderr == "ask: interrupted\n"


def test_the_first_ctrl_c_ends_the_answer_and_gives_the_signal_back():
  growing = terminal.Growing(io.StringIO())
  before = signal.getsignal(signal.SIGINT)
  with terminal.stopping(growing):
    assert growing("a")
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    assert not growing("ab")
    assert signal.getsignal(signal.SIGINT) == before
  assert signal.getsignal(signal.SIGINT) == before


def test_columns_are_as_wide_as_the_terminal(monkeypatch):
  monkeypatch.setenv("COLUMNS", "60")
  text = terminal.side_by_side(["one", "two"], ["word " * 20, "short\n\nlines"])
  lines = text.split("\n")
  assert max(map(len, lines)) <= 60 and lines[0].split() == ["one", "two"]
  assert lines[2].startswith("word word") and lines[2].endswith("short")
