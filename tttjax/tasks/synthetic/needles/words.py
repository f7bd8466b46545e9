"""What needles are made of: keys, values and names of variables, drawn without repetition."""

from collections.abc import Callable, Sequence
import uuid

import numpy as np

_ADJECTIVES = """
  amber ancient bitter blue bold brave brief bright broad brown calm clean clever cold cool curious
  damp dark deep distant dry dusty eager early empty faint famous fancy fast fine firm flat fresh
  gentle giant glad golden grand green grey happy heavy hidden hollow honest humble icy idle jolly
  keen kind large late lazy light little lively lonely long loud lucky mellow mighty mild modest
  narrow neat noble odd old pale patient plain polite proud quick quiet rapid rare red rich rough
  round royal rusty sharp shy silent silver simple slow small smooth soft solid sour steady steep
  strange strong sunny sweet swift tall tame tender thick thin tiny tough vast warm weary white wide
  wild wise wooden yellow young
""".split()
_NOUNS = """
  acorn anchor apple arrow badger barn basket bear bell bench bird boat bottle bridge brook brush
  bucket butter button cabin camel candle canoe carpet castle cedar chain chair cherry clock cloud
  coat coin comet copper cottage cousin crane cricket crown dancer desert dolphin donkey door dragon
  drum eagle engine falcon farmer feather fence ferry field finger fire fish flower forest fox
  garden gate giraffe glove goat guitar hammer harbor hat hawk hill horse island jacket kettle
  kitten ladder lake lamp lantern lemon letter lion lizard lobster maple market meadow mirror monkey
  moon mountain mouse needle nest oak ocean olive onion orchard otter owl paddle palace panda paper
  parrot pebble pencil pepper piano pigeon pillow pirate planet pocket pony potato puppet rabbit
  raven ribbon river robin rocket sailor salmon school shadow sheep shell ship spider spoon squirrel
  stone street summer table teacher temple thunder tiger tower train turtle valley village violin
  wagon walnut whale wheel window winter wolf zebra
""".split()

MOST_KEYS = len(_ADJECTIVES) * len(_NOUNS)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Words:
  """The words of one seed in the order in which they are asked for; no two are the same."""

  def __init__(self, rng: np.random.Generator):
    self._rng = rng
    self._keys = iter(rng.permutation(MOST_KEYS).tolist())
    self._used: set[str] = set()

  def key(self) -> str:
    """An adjective and a noun, 'brave-otter'; StopIteration after MOST_KEYS of them."""
    adjective, noun = divmod(next(self._keys), len(_NOUNS))
    return f"{_ADJECTIVES[adjective]}-{_NOUNS[noun]}"

  def number(self, digits: int) -> str:
    """A number of so many digits that does not begin with 0."""
    return self._new(lambda: str(self._rng.integers(10 ** (digits - 1), 10**digits)))

  def uuid(self) -> str:
    """A random UUID (version 4)."""
    return self._new(lambda: str(uuid.UUID(bytes=self._rng.bytes(16), version=4)))

  def variable(self) -> str:
    """Two letters and two digits, 'KD47'; there are MOST_VARIABLES."""
    letter = lambda: _LETTERS[self._rng.integers(len(_LETTERS))]
    return self._new(lambda: f"{letter()}{letter()}{self._rng.integers(100):02d}")

  def shuffled(self, items: Sequence[str]) -> tuple[str, ...]:
    """The items in a drawn order."""
    return tuple(items[i] for i in self._rng.permutation(len(items)))

  def _new(self, draw: Callable[[], str]) -> str:
    while (word := draw()) in self._used:
      pass
    self._used.add(word)
    return word


MOST_VARIABLES = len(_LETTERS) ** 2 * 100
