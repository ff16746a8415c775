"""Options that the parser cannot apply to a config: `null` for a mapping, elements of lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from lit_unlearn.cli.config import OF_A_CLASS, Config, KeyPath, merge_configs, parse_value
from lit_unlearn.errors import InputError
from lit_unlearn.utils.options import Option, split_options

__all__ = ["lay_over"]


def lay_over(config: Config, args: Sequence[str]) -> tuple[Config, list[str]]:
    """Apply the options that the parser cannot apply to the merged files; return all others too.

    ``null``, as in ``--data.objectives.neighbor=null``, removes a mapping, as in a second file.
    Elements of lists are set, as in `--data.objectives.forget.sources.0.limit 2`; the parser can
    only replace whole lists.

    Raises:
        InputError: A list does not have the element, or the option leaves out its number.
    """
    options = list(split_options(args))
    values, origins = config.values, dict(config.origins)
    others: list[str] = []
    for number, option in enumerate(options):
        path = _path(option)
        if option.value == "null" and _is_mapping(values, path):
            nested: Any = None
            for key in reversed(path):
                nested = {key: nested}
            values = merge_configs(values, nested)
        elif _names_element(values, path, option, options[:number]) or (
            _is_list(option) and any(_is_inside(_path(later), path) for later in options[number:])
        ):
            values, set_path = _with(values, path, parse_value(option.value or ""), option.name)
            origins = {p: o for p, o in origins.items() if p[: len(set_path)] != set_path}
            origins[set_path] = option.name
        else:
            others += option.arguments
    return Config(values, origins), others


def _is_mapping(values: object, path: KeyPath) -> bool:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return isinstance(values, Mapping)


def _names_element(values: object, path: KeyPath, option: Option, before: Sequence[Option]) -> bool:
    """Return whether an option sets an element of a list in the config, or a part of one.

    Raises:
        InputError: The option has no value, or leaves out the number of the element.
    """
    for place, key in enumerate(path):
        if isinstance(values, list):
            if key.isidentifier():
                _check_number_given(values, path, place, option, before)
                return False
            if option.value is None:
                raise InputError(f"{option.name}: expected a value after it, found none")
            return True
        values = _inside(values, key).get(key)
    return False


def _check_number_given(
    values: list[Any], path: KeyPath, place: int, option: Option, before: Sequence[Option]
) -> None:
    """Refuse an option without the element's number, unless the parser takes the last class."""
    above, rest = ".".join(path[:place]), ".".join(path[place:])
    appended = any(other.name == f"--{above}+" for other in before)
    if not appended and not all(isinstance(each, str) or "class_path" in each for each in values):
        raise InputError(
            f"{option.name}: {above} is a list of {len(values)}; to set its first element, give "
            f"--{above}.0.{rest}"
        )


def _with(values: Any, path: KeyPath, new: object, option: str) -> tuple[Any, KeyPath]:
    """Return values with a new one at a path, and the whole path to it, `init_args` included."""
    if not path:
        return new, ()
    key, rest = path[0], path[1:]
    if isinstance(values, list):
        if not key.isdecimal() or int(key) >= len(values):
            last = f"0 to {len(values) - 1}" if values else "none, as the list is empty"
            raise InputError(f"{option}: expected the number of an element, {last}; found {key}")
        index = int(key)
        made, inner = _with(values[index], rest, new, option)
        return [*values[:index], made, *values[index + 1 :]], (key, *inner)
    if isinstance(values, str):  # a class without arguments
        values = {"class_path": values}
    values = values if isinstance(values, Mapping) else {}
    if "class_path" in values and key not in OF_A_CLASS:
        made, inner = _with(values.get("init_args"), path, new, option)
        return {**values, "init_args": made}, ("init_args", *inner)
    made, inner = _with(values.get(key), rest, new, option)
    return {**values, key: made}, (key, *inner)


def _inside(values: object, key: str) -> Mapping[str, Any]:
    """Return the mapping that has a key: the arguments of a class, or the values."""
    if not isinstance(values, Mapping):
        return {}
    arguments = values.get("init_args")
    return arguments if key not in values and isinstance(arguments, Mapping) else values


def _path(option: Option) -> KeyPath:
    return tuple(option.name.removeprefix("--").split("."))


def _is_list(option: Option) -> bool:
    return option.value is not None and isinstance(parse_value(option.value), list)


def _is_inside(path: KeyPath, above: KeyPath) -> bool:
    """Return whether a path names an element of the list at another path."""
    return path[: len(above)] == above and "".join(path[len(above) :][:1]).isdecimal()
