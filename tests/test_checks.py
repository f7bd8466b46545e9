"""The checks that all arguments share: numbers, flags, ids, keys, trees of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.errors import user_error
from tttjax.checks import (
  check_arrays,
  check_flag,
  check_ids,
  check_key,
  check_number,
  is_concrete,
  shown,
)

_BIG = 2**31 - 1


@pytest.mark.parametrize(
  "value", [3, np.int8(3), np.array(3), np.array(3, np.uint64), jnp.array(3)], ids=repr
)
def test_a_whole_number_of_any_kind_becomes_pythons(value):
  got = check_number("n", value, 1, whole=True, static=True)
  assert type(got) is int and got == 3


@pytest.mark.parametrize(
  "value", [0.5, np.float32(0.5), np.array(0.5), jnp.bfloat16(0.5)], ids=repr
)
def test_a_number_of_any_kind_becomes_pythons(value):
  got = check_number("n", value, 0)
  assert type(got) is float and got == 0.5


@pytest.mark.parametrize(
  "value",
  [
    np.array([3]),
    jnp.array([[3]]),
    [3],
    np.array(True),
    np.array("3"),
    np.datetime64(3, "s"),
    np.timedelta64(3, "ns"),
    jax.random.key(0),
    None,
    {},
  ],
  ids=repr,
)
def test_what_is_no_number(value):
  for whole in (False, True):
    with user_error("n must be a"):
      check_number("n", value, 0, whole=whole)


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["e400", "-e400", "e5000"])
def test_an_int_beyond_every_float(value):
  for infinite in (False, True):
    with user_error("n must be finite in float32"):
      check_number("n", value, -np.inf, infinite=infinite)
  with user_error("n must be at"):
    check_number("n", value, 0, _BIG, whole=True)


@pytest.mark.filterwarnings("error")
def test_a_float_that_float32_rounds_to_infinity():
  assert check_number("n", 1e300, 0, infinite=True) == 1e300
  with user_error("n must be finite in float32, not 1e+300"):
    check_number("n", 1e300, 0)
  with user_error("n must be below 1, not 1e+300"):
    check_number("n", 1e300, 0, 1, below=True, infinite=True)


def test_traced_numbers_pass_where_they_are_not_static():
  jax.eval_shape(lambda n: check_number("n", n, 5), 3)
  for check in (
    lambda n: check_number("n", n, 0, static=True),
    lambda n: check_flag("n", n),
    lambda n: check_ids("n", n, 3, 9),
    lambda n: check_ids("n", [1, n], 3, 9),
  ):
    with user_error("n is traced, but a compiled program depends on it"):
      jax.eval_shape(check, 3)


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), jnp.array(True)], ids=repr)
def test_flags(value):
  assert check_flag("on", value) is True


@pytest.mark.parametrize("value", ["no", 0, 1, None, np.array([True]), np.array(1)], ids=repr)
def test_what_is_no_flag(value):
  with user_error("on must be True or False, not"):
    check_flag("on", value)


@pytest.mark.parametrize(
  "ids",
  [(3, 4), [3, 4], np.array([3, 4]), jnp.array([3, 4]), [np.array(3), jnp.array(4)]],
  ids=repr,
)
def test_ids_become_a_tuple_of_pythons_ints(ids):
  got = check_ids("ids", ids, 2, 9)
  assert got == (3, 4) and {type(x) for x in got} == {int}


@pytest.mark.parametrize(
  "ids, words",
  [
    (3, "must be a list of token ids, not 3"),
    ("ab", "must be a list of token ids"),
    (None, "must be a list of token ids, not None"),
    ([[1], [2, 3]], "must be a list of token ids"),
    ([[1, 2]], "must be a list of token ids"),
    ([1, 2, 3], "holds more than 2 ids"),
    ([1, 10], "must be at most 9, not 10"),
    (np.array([1.0]), "must be a whole number, not 1.0"),
    ([True], "must be a whole number, not True"),
    (["a"], "must be a whole number, not 'a'"),
  ],
  ids=str,
)
def test_what_are_no_ids(ids, words):
  with user_error(f"ids {words}"):
    check_ids("ids", ids, 2, 9)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_keys(make):
  key = make(0)
  check_key("key", key)
  check_key("key", np.asarray(key) if key.ndim else key)
  jax.eval_shape(lambda k: check_key("key", k), key)
  jax.eval_shape(jax.vmap(lambda k: check_key("key", k)), jax.random.split(key, 3))
  with user_error("key is an array of PRNG keys of shape (3,); give one"):
    check_key("key", jax.random.split(key, 3))


@pytest.mark.parametrize(
  "key", [0, None, "0", np.array(0), np.zeros(2), np.zeros(3, np.uint32), (0, 1)], ids=repr
)
def test_what_is_no_key(key):
  with user_error("key is ", "give key=jax.random.key(seed)"):
    check_key("key", key)


def test_trees_of_arrays():
  for tree in (np.ones(2), {"a": (jnp.ones(2), None)}, [jax.ShapeDtypeStruct((2,), jnp.bfloat16)]):
    check_arrays("tree", tree, "give one")
  for tree, words in (
    ({}, "tree is {}, which holds no array"),
    (None, "tree is None, which holds no array"),
    ("x", "tree is 'x', which is no array of numbers"),
    ({"a": [np.ones(2), 3]}, "tree holds 3 at a/1, which is no array of numbers"),
    ({"a": np.array(["b"])}, "tree holds an array of shape (1,) and dtype <U1 at a"),
    ({"key": jax.random.key(0)}, "at key, which is no array of numbers"),
  ):
    with user_error(words, "give one"):
      check_arrays("tree", tree, "give one")


@pytest.mark.parametrize(
  "value",
  [
    "a\nb",
    "x" * 1000,
    10**5000,
    np.ones((50, 50)),
    {"a": "\n"},
    [["\n"] * 99],
    object(),
    lambda: 0,
  ],
  ids=["lines", "long", "digits", "array", "dict", "list", "object", "function"],
)
def test_a_quoted_value_is_one_short_line(value):
  assert "\n" not in shown(value) and len(shown(value)) < 90


def test_concrete_values():
  assert is_concrete(3, [jnp.ones(2)], None)
