"""Solvers of the generated tasks that have not the skill a task measures.

A solver of needles does not read the question; a solver of logs compares no balance with another
one and computes nothing; a solver of code does not understand a line; a solver of words that are to
be counted does not count. Each looks at one thing that
may tell a line from the others (where it stands, how long it is, how often its accounts, ids,
amounts, balances or tokens occur, how it is written) and points at all lines where that thing is
extreme: a guess among them is right with probability 1 / their number.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
import re

Key = Callable[[int], float]  # of the number of a line


@dataclasses.dataclass(frozen=True)
class Transfer:
  """A transfer's line of a log in either dialect, its numbers as they are written."""

  text: str
  id: str
  amount: str
  accounts: tuple[str, str]
  olds: tuple[str, str]
  news: tuple[str, str]

  @property
  def balances(self) -> tuple[str, ...]:
    return self.olds + self.news


_NUMBER = r"(-?\d+)"
_DIALECTS = (
  re.compile(rf"TX(\d+):(\d+) (\w+)={_NUMBER}>{_NUMBER} (\w+)={_NUMBER}>{_NUMBER}"),
  re.compile(
    rf"TX(\d+): transfer (\d+) from \w+ to \w+; (\w+): {_NUMBER} -> {_NUMBER}, "
    rf"(\w+): {_NUMBER} -> {_NUMBER}"
  ),
)
_OPENING = re.compile(r"(?:OPEN )?([A-Z]\d\d)[=:] ?(\d+)")


def read_log(context: str) -> tuple[list[Transfer], dict[str, int]]:
  """The transfers of a context in order, and what each account opened with."""
  transfers, openings = [], {}
  for line in context.split("[CONTEXT]\n")[1].splitlines():
    if match := _OPENING.fullmatch(line):
      openings[match[1]] = int(match[2])
    for dialect in _DIALECTS:
      if match := dialect.fullmatch(line):
        number, amount, a, a_old, a_new, b, b_old, b_new = match.groups()
        transfers.append(Transfer(line, number, amount, (a, b), (a_old, b_old), (a_new, b_new)))
  return transfers, openings


def components(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
  """Numbers of the lines of each group of accounts that transfers connect, ascending."""
  group: dict[str, str] = {}

  def root(name):
    while group.setdefault(name, name) != name:
      name = group[name]
    return name

  for a, b in pairs:
    group[root(a)] = root(b)
  lines = collections.defaultdict(list)
  for i, (a, _) in enumerate(pairs):
    lines[root(a)].append(i)
  return list(lines.values())


def extremes(count: int, keys: dict[str, Key]) -> dict[str, list[int]]:
  """For every key the lines where it is smallest and those where it is largest."""
  guesses = {}
  for name, key in keys.items():
    values = [key(i) for i in range(count)]
    for end, best in (("least", min(values)), ("most", max(values))):
      guesses[f"{end} {name}"] = [i for i, value in enumerate(values) if value == best]
  return guesses


def _places(count: int) -> dict[str, list[int]]:
  shares = {"first": 0, "second": 1, "third": 2, "middle": count // 2}
  shares |= {"last": -1, "last but one": -2, "last but two": -3}
  return {name: [i % count] for name, i in shares.items()}


def visible_anomaly(transfers: Sequence[Transfer]) -> list[int]:
  """What can be seen: the later line of a repeated id, else a line with a minus sign, else none."""
  seen = collections.Counter(transfer.id for transfer in transfers)
  repeated = [i for i, transfer in enumerate(transfers) if seen[transfer.id] > 1]
  negative = [i for i, transfer in enumerate(transfers) if any("-" in b for b in transfer.news)]
  return repeated[-1:] or negative[:1]


def log_guesses(context: str) -> dict[str, list[int]]:
  """Name of a solver to the transfers (by number) that it thinks may be the anomaly."""
  transfers, openings = read_log(context)
  count = len(transfers)
  tally = lambda values: collections.Counter(values)
  uses = tally(account for t in transfers for account in t.accounts)
  amounts = tally(t.amount for t in transfers)
  pairs = tally(t.accounts for t in transfers)
  alphabet = {account: i for i, account in enumerate(sorted(uses))}
  payments = tally((frozenset(t.accounts), t.amount) for t in transfers)
  both_ways = tally(frozenset(t.accounts) for t in transfers)
  sources, targets = (tally(t.accounts[side] for t in transfers) for side in (0, 1))
  numbers = tally(balance for t in transfers for balance in t.balances)
  olds = tally(pair for t in transfers for pair in zip(t.accounts, t.olds))
  news = tally(pair for t in transfers for pair in zip(t.accounts, t.news))
  pieces_of = [re.findall(r"\d\d|\W|\w", t.text) for t in transfers]
  pieces = tally(piece for found in pieces_of for piece in found)
  lines_of = collections.defaultdict(list)
  for i, transfer in enumerate(transfers):
    for account in transfer.accounts:
      lines_of[account].append(i)

  both = lambda i, function: [function(account) for account in transfers[i].accounts]
  since = lambda i, account: i - max((j for j in lines_of[account] if j < i), default=-count)
  until = lambda i, account: min((j for j in lines_of[account] if j > i), default=2 * count) - i
  late = lambda account: sum(j >= count / 2 for j in lines_of[account]) / uses[account]
  zeros = lambda text: len(text) - len(text.rstrip("0"))
  keys: dict[str, Key] = {
    "length of the line": lambda i: len(transfers[i].text),
    "different characters": lambda i: len(set(transfers[i].text)),
    "frequent pieces": lambda i: sum(pieces[piece] for piece in pieces_of[i]),
    "frequent rarest piece": lambda i: min(pieces[piece] for piece in pieces_of[i]),
    "minus signs": lambda i: transfers[i].text.replace("->", "").count("-"),
    "id": lambda i: int(transfers[i].id),
    "round id": lambda i: zeros(transfers[i].id),
    "different digits of the id": lambda i: len(set(transfers[i].id)),
    "amount": lambda i: int(transfers[i].amount),
    "frequent amount": lambda i: amounts[transfers[i].amount],
    "last digit of the amount": lambda i: int(transfers[i].amount) % 5,
    "used accounts": lambda i: sum(both(i, uses.__getitem__)),
    "used rarer account": lambda i: min(both(i, uses.__getitem__)),
    "used commoner account": lambda i: max(both(i, uses.__getitem__)),
    "frequent source": lambda i: sources[transfers[i].accounts[0]],
    "frequent target": lambda i: targets[transfers[i].accounts[1]],
    "frequent pair": lambda i: pairs[transfers[i].accounts],
    "frequent pair either way": lambda i: both_ways[frozenset(transfers[i].accounts)],
    "late accounts": lambda i: sum(both(i, late)),
    "first use of an account": lambda i: min(both(i, lambda a: lines_of[a][0])),
    "last use of an account": lambda i: max(both(i, lambda a: lines_of[a][-1])),
    "earliest last use": lambda i: min(both(i, lambda a: lines_of[a][-1])),
    "lines since an account's last": lambda i: min(both(i, lambda a: since(i, a))),
    "lines since both accounts' last": lambda i: max(both(i, lambda a: since(i, a))),
    "lines until an account's next": lambda i: min(both(i, lambda a: until(i, a))),
    "lines until both accounts' next": lambda i: max(both(i, lambda a: until(i, a))),
    "name of the source": lambda i: alphabet[transfers[i].accounts[0]],
    "name of the target": lambda i: alphabet[transfers[i].accounts[1]],
    "opening of the source": lambda i: openings[transfers[i].accounts[0]],
    "opening of the target": lambda i: openings[transfers[i].accounts[1]],
    "largest balance": lambda i: max(map(int, transfers[i].balances)),
    "smallest balance": lambda i: min(map(int, transfers[i].balances)),
    "new balance of the source": lambda i: int(transfers[i].news[0]),
    "new balance of the target": lambda i: int(transfers[i].news[1]),
    "zeros at the end of a balance": lambda i: max(map(zeros, transfers[i].balances)),
    "digits of the balances": lambda i: sum(map(len, transfers[i].balances)),
    "different last digits": lambda i: len({balance[-1] for balance in transfers[i].balances}),
    "frequent balances": lambda i: sum(numbers[b] for b in transfers[i].balances),
    "frequent rarest balance": lambda i: min(numbers[b] for b in transfers[i].balances),
    "frequent commonest balance": lambda i: max(numbers[b] for b in transfers[i].balances),
    "repeated old balance": lambda i: max(
      olds[pair] for pair in zip(transfers[i].accounts, transfers[i].olds)
    ),
    "repeated old balance of the source": lambda i: olds[
      transfers[i].accounts[0], transfers[i].olds[0]
    ],
    "repeated new balance": lambda i: max(
      news[pair] for pair in zip(transfers[i].accounts, transfers[i].news)
    ),
    "repeated amount of the pair": lambda i: payments[
      frozenset(transfers[i].accounts), transfers[i].amount
    ],
    "shared accounts with the line above": lambda i: len(
      set(transfers[i].accounts) & set(transfers[i - 1].accounts if i else ())
    ),
  }
  guesses = _places(count) | extremes(count, keys)

  # Whatever has an old balance that was an old balance before, seen or not.
  repeated = [
    i for i, t in enumerate(transfers) if any(olds[pair] > 1 for pair in zip(t.accounts, t.olds))
  ]
  guesses["any repeated old balance"] = repeated or list(range(count))
  groups = components([transfer.accounts for transfer in transfers])
  for end, best in (("smallest", min(map(len, groups))), ("largest", max(map(len, groups)))):
    chosen = [group for group in groups if len(group) == best]
    guesses[f"{end} component"] = [i for group in chosen for i in group]
    for name, place in _places(best).items():
      guesses[f"{end} component, {name}"] = [group[place[0]] for group in chosen]
  isolated = min(groups, key=len)
  guesses["visible, else the smallest component's last but one"] = (
    visible_anomaly(transfers) or isolated[-2:][:1]
  )
  return guesses


# Code.

_CODE_LINE = re.compile(r"(\d+):(?: (.*))?")
# What a careless edit may leave behind, as regular expressions for a line.
ODDITIES = {
  "a factor of 1": r"(?<![\w.])1(\.0)? \*|\* 1(\.0)?(?![\w.])|/ 1(\.0)?(?![\w.])",
  "a sum with 0": r"(?<![\w.])0(\.0)? [+-]|[+-] 0(\.0)?(?![\w.])",
  "two signs": r"[+-] ?[+-]|\* ?-|/ ?-",
  "two negations": r"not not|not \w+ (not )?in |not \w+ is ",
  "two spaces": r"\S  +[^\s#]",
  "a space before a bracket": r" [)\],:;]|[(\[] ",
  "parentheses around a name": r"(?<![\w)\]])\(\w+\)|\(\(",
  "no spaces around an operator": r"\w[+/%<>]\w|\w==\w",
  "an empty call": r"\(\)",
  "a constant condition": r"if (True|False|0|1)\b|and (True|False)|or (True|False)",
  "a keyword that is False": r"=False",
  "a keyword that is True": r"=True",
  "an index that is not 0": r"\[-?[1-9]\]",
  "a negative axis": r"(axis|dim)=-",
  "an axis": r"(axis|dim)=",
  "a count that is at least 0": r">= 0|< 0",
  "not": r"\bnot\b",
  "a division": r" / ",
  "a comparison": r" [<>]=? ",
  "no letters": r"^[^A-Za-z]+$",
}


def read_code(context: str) -> list[tuple[str, str]]:
  """(place, text) of the lines of a context; a place is what the question asks for."""
  lines, path = [], ""
  for line in context.split("[CONTEXT]\n")[1].splitlines():
    if line.startswith("# "):
      path = line[2:]
    elif match := _CODE_LINE.fullmatch(line):
      lines.append((f"{path}:{match[1]}", match[2] or ""))
  return lines


def code_guesses(context: str) -> dict[str, list[int]]:
  """Name of a solver to the lines (by number) that it thinks may have the bug."""
  lines = [text for _, text in read_code(context)]
  # Comments and blank lines hold no bug: none of the solvers looks at them.
  shown = [i for i, text in enumerate(lines) if text.strip() and not text.strip().startswith("#")]
  texts = [lines[i].strip() for i in shown]
  words_of = [re.findall(r"\w+|[^\w\s]+", text) for text in texts]
  words = collections.Counter(word for found in words_of for word in found)
  pairs = collections.Counter(pair for found in words_of for pair in zip(found, found[1:]))
  copies = collections.Counter(texts)
  keys: dict[str, Key] = {
    "length": lambda i: len(texts[i]),
    "indentation": lambda i: len(lines[shown[i]]) - len(texts[i]),
    "width": lambda i: len(lines[shown[i]]),
    "words": lambda i: len(words_of[i]),
    "different words": lambda i: len(set(words_of[i])),
    "frequent rarest word": lambda i: min(words[word] for word in words_of[i]),
    "frequent words": lambda i: sum(words[word] for word in words_of[i]) / len(words_of[i]),
    "new words": lambda i: sum(words[word] == 1 for word in words_of[i]),
    "new pairs of words": lambda i: sum(
      pairs[pair] == 1 for pair in zip(words_of[i], words_of[i][1:])
    ),
    "copies": lambda i: copies[texts[i]],
    "numbers": lambda i: len(re.findall(r"(?<!\w)\d", texts[i])),
    "signs": lambda i: len(re.findall(r"[^\w\s]", texts[i])),
    "operators": lambda i: len(re.findall(r" [-+*/%@<>]+=? ", texts[i])),
    "parentheses": lambda i: texts[i].count("("),
    "unequal parentheses": lambda i: abs(texts[i].count("(") - texts[i].count(")")),
    "words that repeat in the line": lambda i: len(words_of[i]) - len(set(words_of[i])),
  }
  guesses = _places(len(texts)) | extremes(len(texts), keys)
  for name, pattern in ODDITIES.items():
    found = [i for i, text in enumerate(texts) if re.search(pattern, text)]
    guesses[f"a line with {name}"] = found or list(range(len(texts)))
  return {name: [shown[i] for i in found] for name, found in guesses.items()}


# Needles.

_STATEMENTS = (
  re.compile(r"(?:The|One) magic (?:number|code) for (?P<key>\S+) is (?P<value>\S+)\."),
  re.compile(r"VAR (?P<value>\w+) = (?:VAR )?(?P<key>\w+)"),
  re.compile(r'\{"(?P<key>\S+)": "(?P<value>\S+)"\}'),
)


def read_statements(lines: Sequence[str]) -> list[tuple[str, str, str]]:
  """(line, key, value) of the lines that state a value; a variable's key is what it is set to."""
  found = []
  for line in lines:
    for form in _STATEMENTS:
      if match := form.fullmatch(line):
        found.append((line, match["key"], match["value"]))
  return found


def needle_guesses(context: str, answers: int) -> dict[str, list[str]]:
  """Name of a solver to the values that it writes, `answers` of them or all of one key or chain."""
  lines = context.split("[CONTEXT]\n")[1].splitlines()
  stated = read_statements(lines)
  texts, names, values = zip(*stated)
  where = [lines.index(text) for text in texts]
  tally = collections.Counter
  characters = tally("".join(values))
  words = tally(word for name in names for word in name.split("-"))
  bigrams = tally(a + b for value in values for a, b in zip(value, value[1:]))
  keys = tally(names)
  number = lambda i: int(re.sub(r"\W", "", values[i]), 36)
  ends = [-1, *where, len(lines)]
  keys_of: dict[str, Key] = {
    "place": lambda i: i,
    "distance from the middle": lambda i: abs(where[i] - len(lines) / 2),
    "distance from the needle above": lambda i: where[i] - ends[i],
    "distance from the needle below": lambda i: ends[i + 2] - where[i],
    "length": lambda i: len(texts[i]),
    "value": number,
    "sum of digits": lambda i: sum(int(c, 36) for c in re.sub(r"\W", "", values[i])),
    "last digit": lambda i: number(i) % 36,
    "different characters of the value": lambda i: len(set(values[i])),
    "frequent characters of the value": lambda i: sum(characters[c] for c in values[i]),
    "frequent rarest character": lambda i: min(characters[c] for c in values[i]),
    "frequent pairs of characters": lambda i: sum(
      bigrams[a + b] for a, b in zip(values[i], values[i][1:])
    ),
    "name": lambda i: sorted(names).index(names[i]),
    "length of the name": lambda i: len(names[i]),
    "frequent name": lambda i: keys[names[i]],
    "frequent words of the name": lambda i: sum(words[word] for word in names[i].split("-")),
    "mentions of the value": lambda i: context.count(values[i]),
    "mentions of the name's words": lambda i: sum(
      context.count(word) for word in names[i].split("-")
    ),
    "length of the line above": lambda i: len(lines[where[i] - 1]) if where[i] else 0,
    "length of the line below": lambda i: len((*lines, "")[where[i] + 1]),
  }
  guesses = {}
  for name, key in keys_of.items():
    order = sorted(range(len(stated)), key=key)
    guesses[f"least {name}"] = [values[i] for i in order[:answers]]
    guesses[f"most {name}"] = [values[i] for i in order[::-1][:answers]]
  middle = (len(stated) - answers) // 2
  guesses["the middle ones"] = list(values[middle : middle + answers])
  groups: dict[str, list[int]] = {}
  chain: dict[str, str] = {}  # variable to the number that it holds
  for i, (_, key, value) in enumerate(stated):
    chain[value] = chain.get(key, key)
    groups.setdefault(chain[value], []).append(i)
  whole = [group for group in groups.values() if len(group) == max(map(len, groups.values()))]
  for name, key in {
    "begins": lambda group: group[0],
    "ends": lambda group: group[-1],
    "spread": lambda group: group[-1] - group[0],
    "mean place": lambda group: sum(group) / len(group),
    "largest": lambda group: max(map(number, group)),
    "smallest": lambda group: min(map(number, group)),
  }.items():
    guesses[f"the group of least {name}"] = [values[i] for i in min(whole, key=key)]
    guesses[f"the group of most {name}"] = [values[i] for i in max(whole, key=key)]
  return guesses


# Words to be counted.


def word_guesses(context: str, answers: int) -> dict[str, list[str]]:
  """Name of a solver to the different words that it writes, `answers` of them."""
  shown = re.findall(r"[a-z]+", context.split("[CONTEXT]\n")[1])
  different = list(dict.fromkeys(shown))
  letters = collections.Counter("".join(different))
  pairs = collections.Counter(word[i : i + 2] for word in different for i in range(len(word) - 1))
  middle = len(shown) // 2
  distance = sorted(range(len(shown)), key=lambda i: abs(i - middle))
  from_a_third = [*shown[len(shown) // 3 :], *shown]
  orders = {
    "the first": different,
    "the last": dict.fromkeys(reversed(shown)),
    "the middle ones": dict.fromkeys(shown[i] for i in distance),
    "those from a third on": dict.fromkeys(from_a_third),
    "every seventh": dict.fromkeys([*shown[::7], *shown]),
    "those that come latest": reversed(different),
    "those that end earliest": list(dict.fromkeys(reversed(shown)))[::-1],
  }
  keys = {
    "letters": len,
    "place in the alphabet": str,
    "place of the end in the alphabet": lambda word: word[::-1],
    "first letter": lambda word: word[0],
    "different letters": lambda word: len(set(word)),
    "frequent letters": lambda word: sum(letters[letter] for letter in word),
    "frequent rarest letter": lambda word: min(letters[letter] for letter in word),
    "frequent pairs of letters": lambda word: sum(pairs[a + b] for a, b in zip(word, word[1:])),
    "repeated syllables": lambda word: -len({word[i : i + 2] for i in range(0, len(word), 2)}),
    "letters i": lambda word: word.count("i"),
  }
  alphabet = sorted(different)  # words that are alike do not stand in the order of the text
  for name, key in keys.items():
    orders[f"least {name}"] = sorted(alphabet, key=key)
    orders[f"most {name}"] = sorted(alphabet, key=key, reverse=True)
  return {name: list(order)[:answers] for name, order in orders.items()}
