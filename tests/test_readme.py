"""The README's code runs as it stands."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def test_the_api_in_twenty_lines_runs(tmp_path, monkeypatch, capsys):
  """The first block that imports tttjax, executed in an empty directory."""
  block = re.search(r"^```python\n(import jax.*?)^```", README.read_text(), re.S | re.M)[1]
  lines = [line for line in block.splitlines() if line.strip()]
  assert len(lines) <= 24
  monkeypatch.chdir(tmp_path)
  names = {}
  exec(compile(block, str(README), "exec"), names)
  printed = capsys.readouterr().out
  assert "in context" in printed and "adapted" in printed
  assert (tmp_path / "runs/adapted/model.safetensors").exists()
  assert names["logprobs"].shape == names["question"].shape


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()))
def test_files_that_the_readme_points_to_exist(link):
  assert (README.parent / link).exists()
