"""Config files: read with line numbers, and merged key by key when there are several.

If a second file sets one entry of a ``dict[str, Objective]``, jsonargparse replaces the whole
dictionary, and the other objectives are lost silently. Files are therefore merged before they are
parsed. The file and line of each key are kept for error messages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.utils.config_files import find_config, shipped_names
from lit_unlearn.utils.options import take_options

__all__ = ["OF_A_CLASS", "Config", "KeyPath", "Origin", "merge_configs", "parse_value"]
__all__ += ["read_config", "read_configs", "read_dumped", "take_config_args"]

OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
"""Keys of a class and its arguments."""
KeyPath = tuple[str, ...]
"""Keys that lead to a value, from the outermost to the innermost."""


@dataclass(frozen=True)
class Origin:
    """File and line of a key."""

    file: Path
    line: int
    """Counted from 1."""

    def __str__(self) -> str:
        """``file:line``, as editors and compilers write it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Config:
    """Values of one or several config files, with file and line of each."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: Mapping[KeyPath, Origin | str] = field(default_factory=dict)
    """A string is the option of the command line that set the key."""

    def origin(self, path: KeyPath) -> Origin | str | None:
        """Return the origin of a key, or else of the nearest key above it that has one, or None."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None


def merge_configs(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the config ``over`` into ``base``, key by key; neither is changed.

    Mappings are merged. Scalars and lists are replaced; a key ``name+`` with a list appends to the
    list ``name``. A different ``class_path`` replaces its whole mapping, since the old arguments
    belong to another class. ``null`` removes a mapping: an objective disappears, and any other part
    gets its default. In place of other values, ``null`` stays ``null``.
    """
    merged = dict(base)
    for key, value in over.items():
        if key.endswith("+") and isinstance(value, list):
            target = key[:-1] if isinstance(merged.get(key[:-1]), list) else key
            merged[target] = [*merged.get(target, []), *value]
        elif value is None and isinstance(merged.get(key), Mapping):
            del merged[key]
        else:
            merged[key] = _merge_values(merged.get(key), value)
    return merged


def _merge_values(base: object, over: object) -> object:
    """Return the value of a key that both configs have."""
    if not isinstance(over, Mapping):
        return over
    if isinstance(base, str) and "init_args" in over:  # `forget: Distillation` in the first file
        base = {"class_path": base}
    base = base if isinstance(base, Mapping) else {}
    old, new = base.get("class_path"), over.get("class_path")
    short, long = sorted((str(old), str(new)), key=len)
    same = old == new or ("." not in short and long.endswith(f".{short}"))  # without its module
    return merge_configs(base if new is None or same else {}, over)


# ---------------------------------------------------------------------------------------- reading


def take_config_args(args: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Separate the files of ``--config`` and ``-c`` from the other arguments."""
    files, others = take_options(args, lambda name: name in ("--config", "-c"))
    return [Path(value) for _, value in files], others


def read_configs(files: Sequence[Path]) -> Config:
    """Read and merge config files; later files take precedence."""
    values: dict[str, Any] = {}
    origins: dict[KeyPath, Origin | str] = {}
    for file in files:
        config = read_config(file)
        values = merge_configs(values, config.values)
        origins |= config.origins
    return Config(values, origins)


def read_config(file: Path) -> Config:
    """Read one YAML (or JSON) file.

    Raises:
        InputError: The file is missing or not text, has a syntax error, sets a key twice, or is not
            a mapping; the message names file and line.
    """
    text = _read_text(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node:
            _check_size(node, file, {})
        origins: dict[KeyPath, Origin | str] = dict(_origins(node, file)) if node else {}
        values = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    except InputError:
        raise
    except Exception as error:  # values with a tag fail with errors of every kind
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        found = "an empty file" if values is None else f"a {type(values).__name__}"
        raise InputError(f"{file}: expected keys such as model, data and trainer, found {found}")
    return Config(values, origins)


def read_dumped(text: str) -> Any:
    """Parse YAML that the parser wrote, with PyYAML's loader in C if there is one."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def parse_value(text: str) -> Any:
    """Parse the value of an option as in a config; text that is not YAML is returned unchanged."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def _read_text(file: Path) -> str:
    try:
        return find_config(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(_missing(file)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not valid UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _missing(file: Path) -> str:
    local = sorted(file.parent.iterdir()) if file.parent.is_dir() else []
    names = [path.name for path in local if path.suffix in (".yaml", ".yml", ".json")]
    longer = " or ".join([name for name in names if file.stem in name][:3])
    otherwise = f"did you mean {longer}?" if longer else ""
    hint = did_you_mean(file.name, names, most=3, otherwise=otherwise)
    if not hint and not file.is_absolute():
        hint = did_you_mean(file.as_posix().removeprefix("configs/"), shipped_names(), most=3)
    if not hint and not file.parent.is_dir():
        return f"--config {file}: there is no folder {file.parent}"
    held = f"{file.parent} holds {', '.join(names) or 'no YAML file'}"
    return f"--config {file}: no such file; {hint or held}"


def _check_size(node: yaml.Node, file: Path, seen: dict[int, int]) -> int:
    """Return the number of values in a node, with aliases expanded; refuse a file with too many."""
    if seen.setdefault(id(node), 0) > 0:
        return seen[id(node)]
    seen[id(node)] = _MOST_NODES  # until it is counted, so that an alias of a parent node fails
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    flat = [p for pair in parts for p in pair] if isinstance(node, yaml.MappingNode) else parts
    size = 1 + sum(_check_size(part, file, seen) for part in flat)
    if size > _MOST_NODES:
        line = node.start_mark.line + 1
        raise InputError(f"{file}:{line}: expected at most {_MOST_NODES} values, found more")
    seen[id(node)] = size
    return size


def _origins(node: yaml.Node, file: Path, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Origin]]:
    """Yield file and line of each key under a YAML node."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _origins(item, file, (*path, str(index)))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in _TAGS_OF_NAMES:
            raise InputError(f"{file}:{line}: expected a name before the colon, found {key.value}")
        name = str(key.value)
        if name in seen and name != "<<":
            raise InputError(f"{file}:{line}: key {name} is already set in line {seen[name]}")
        seen[name] = line
        yield (*path, name), Origin(file, line)
        yield from _origins(value, file, (*path, name))


_MOST_NODES = 100_000
_TAGS_OF_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")


class _Loader(yaml.SafeLoader):
    """YAML loader that reads ``1e-5`` as a number and ``2026-01-01`` as a string."""


_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_REPLACED = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
