"""Fast weights on disk: what is no state is refused in plain words, before Orbax begins."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.errors import user_error
import tttjax as tt

_DELTA = "layers/attention/query/delta"


def _fast(dtype=np.float32, shape=(2, 8, 4, 2)):
  return {"layers": {"attention": {"query": {"delta": np.ones(shape, dtype)}}}}


@pytest.fixture(scope="module")
def state():
  """(fast, opt_state)."""
  fast = jax.tree.map(jnp.asarray, _fast())
  return fast, tt.init_optimizer(fast)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
  """A directory with the state after 3 steps, not to be changed."""
  directory = tmp_path_factory.mktemp("saved")
  tt.save_fast(directory, *state, 3)
  return directory


@pytest.fixture
def copy(saved, tmp_path):
  """A directory with the state after 3 steps."""
  return shutil.copytree(saved, tmp_path / "copy")


_NO_FAST = [
  ("x", "fast is 'x', which is no array of numbers"),
  ({}, "fast is {}, which holds no array"),
  (None, "fast is None, which holds no array"),
  (3, "fast is 3, which is no array"),
  (np.ones(3), "fast holds one array, which is no fast weight"),
  ({"embed": np.ones(3)}, "fast holds embed, which is no fast weight"),
  ({"layers": {"attention": {"query_scale": np.ones(3)}}}, f"fast holds no {_DELTA}"),
  (_fast(object), "which is no array of numbers"),
]
_NO_OPTIMIZER = [
  ("x", "opt_state is 'x', which is no array of numbers"),
  ({}, "opt_state is {}, which holds no array"),
  (None, "opt_state is None, which holds no array"),
  (3, "opt_state is 3, which is no array"),
  (({"mu": "x"},), "opt_state holds 'x' at 0/mu"),
]


@pytest.mark.parametrize("fast, words", _NO_FAST, ids=lambda x: "")
def test_what_is_no_fast_weights(state, saved, tmp_path, fast, words):
  with user_error(words, "give what init_fast or adapt returned"):
    tt.save_fast(tmp_path / "new", fast, state[1], 1)
  assert not (tmp_path / "new").exists()
  with user_error("like's " + words if words.startswith("fast") else words):
    tt.restore_fast(saved, (fast, state[1]))


@pytest.mark.parametrize("opt_state, words", _NO_OPTIMIZER, ids=lambda x: "")
def test_what_is_no_state_of_an_optimizer(state, saved, tmp_path, opt_state, words):
  with user_error(words, "give what init_optimizer(fast) or adapt returned"):
    tt.save_fast(tmp_path / "new", state[0], opt_state, 1)
  assert not (tmp_path / "new").exists()
  with user_error("like's " + words):
    tt.restore_fast(saved, (state[0], opt_state))


def test_a_traced_state_is_not_saved(state, tmp_path):
  with user_error("fast or opt_state is traced"):
    jax.eval_shape(lambda fast: tt.save_fast(tmp_path / "new", fast, state[1], 1), state[0])
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("step", [np.array([5]), jnp.array([[5]])], ids=["[5]", "[[5]]"])
def test_a_step_that_is_an_array_with_axes(state, tmp_path, step):
  with user_error("step must be a whole number, not an array of shape"):
    tt.save_fast(tmp_path / "new", *state, step)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("step", [np.array(5), jnp.array(5), np.int64(5)], ids=repr)
def test_a_step_that_is_a_number_of_another_kind(state, tmp_path, step):
  tt.save_fast(tmp_path, *state, step)
  fast, _, got = tt.restore_fast(tmp_path, state)
  assert type(got) is int and got == 5
  jax.tree.map(np.testing.assert_array_equal, fast, state[0])


@pytest.mark.parametrize("dtype", [np.int32, np.float16, jnp.bfloat16], ids=["i32", "f16", "bf16"])
def test_restoring_as_another_dtype(state, saved, dtype):
  name = np.dtype(dtype).name
  with user_error(f"fast.layers.attention.query.delta has dtype float32, not {name}"):
    tt.restore_fast(saved, (_fast(dtype), state[1]))
  float_counts = jax.tree.map(lambda x: x.astype(np.float32), state[1])
  with user_error("opt_state.1.count has dtype int32, not float32"):
    tt.restore_fast(saved, (state[0], float_counts))


def test_restoring_as_another_structure(state, saved):
  fast, opt_state = state
  with user_error("opt_state.1.mu", "was saved but is not expected", "the optimizer"):
    tt.restore_fast(saved, (fast, (opt_state[0], opt_state[3], opt_state[2], opt_state[3])))
  with user_error("opt_state.4.extra is expected but was not saved"):
    tt.restore_fast(saved, (fast, (*opt_state, {"extra": np.ones(2)})))


@pytest.mark.parametrize(
  "like", [None, (), ("fast",), ("fast", "state", 3), "fast", 3, {"fast": 1}], ids=str
)
def test_what_is_no_pair(saved, like):
  with user_error("like must be the pair (fast, opt_state) of what is expected, not"):
    tt.restore_fast(saved, like)


def test_a_step_without_contents(state, tmp_path):
  (tmp_path / "5").mkdir()
  with user_error("step 5 cannot be restored (the description of what was saved is missing"):
    tt.restore_fast(tmp_path, state)


def _drop(name):
  def change(path):
    sums = json.loads(path.read_text())
    del sums[name]
    path.write_text(json.dumps(sums))

  return change


def _dangle(path):
  path.unlink()
  path.symlink_to("nowhere")


@pytest.mark.parametrize(
  "change, words",
  [
    (lambda path: path.write_text("{}"), "not among the files that sha256.json lists"),
    (_drop("default/manifest.ocdbt"), "default/manifest.ocdbt: not among the files"),
    (_dangle, "sha256.json: cannot be read"),
    (lambda path: path.write_text("[]"), "sha256.json: not an object of JSON"),
  ],
  ids=["empty", "one missing", "link to nowhere", "a list"],
)
def test_sums_that_do_not_list_every_file(state, copy, change, words):
  change(copy / "3" / "sha256.json")
  with user_error(f"{copy}: step 3 cannot be restored", words):
    tt.restore_fast(copy, state)


def test_a_file_that_was_added_is_found(state, copy):
  (copy / "3" / "default" / "more").write_text("x")
  with user_error("default/more: not among the files that sha256.json lists"):
    tt.restore_fast(copy, state)
