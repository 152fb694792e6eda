"""Pipelines as text: ``fold-batch-norm,unify-steps{tolerance=0.5,axes=[0,1]}`` and back."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from snnc.errors import InternalError, UsageError, Where
from snnc.pipeline.contract import Pass

__all__ = ["format_pass", "format_pipeline", "parse_pipeline"]


def parse_pipeline(text: str, passes: Iterable[type[Pass]]) -> tuple[Pass, ...]:
    """Read a pipeline from text.

    Args:
        text: Passes separated by commas; options in braces, ``name{option=value,other=[1,2]}``. Hyphens
            and underscores in option names mean the same. Values are Python literals; a bare word is a
            string.
        passes: The passes there are.

    Returns:
        The passes, in order.

    Raises:
        UsageError: SNN221 unknown pass, with the nearest names; SNN222 malformed text; SNN223 unknown,
            missing or ill-typed option.
        InternalError: SNN105, if two passes have one name.
    """
    known = _by_name(passes)
    steps: list[Pass] = []
    for part in _split(text, text):
        name, brace, rest = part.partition("{")
        name = name.strip()
        if brace and not rest.endswith("}"):
            raise _malformed(text, f"the brace of {name!r} is not closed")
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see 'snnc passes'"
            raise UsageError("SNN221", f"there is no pass {name!r}", hint=hint)
        steps.append(_build(known[name], rest[:-1] if brace else "", text))
    return tuple(steps)


def format_pass(step: Pass) -> str:
    """Write one pass with those of its options that are not at their defaults.

    Args:
        step: The pass.

    Returns:
        Text that :func:`parse_pipeline` reads back to an equal pass.

    Raises:
        UsageError: SNN223, if an option has no text form (an array, for example).
    """
    options = []
    for entry in _options(type(step)):
        value = getattr(step, entry.name)
        if entry.default is not dataclasses.MISSING and _same(entry.default, value):
            continue
        if entry.default_factory is not dataclasses.MISSING and _same(entry.default_factory(), value):
            continue
        if not _has_text(value):
            raise UsageError(
                "SNN223",
                f"option {entry.name!r} holds {type(value).__name__}, which has no text form",
                where=Where(pass_name=step.name),
            )
        options.append(f"{entry.name.replace('_', '-')}={_text(value)}")
    return step.name + (f"{{{','.join(options)}}}" if options else "")


def format_pipeline(steps: Sequence[Pass]) -> str:
    """Write a pipeline as text; the inverse of :func:`parse_pipeline`.

    Raises:
        UsageError: SNN223, see :func:`format_pass`.
    """
    return ",".join(format_pass(step) for step in steps)


def _by_name(passes: Iterable[type[Pass]]) -> dict[str, type[Pass]]:
    known: dict[str, type[Pass]] = {}
    for entry in passes:
        if entry.name in known:
            raise InternalError(
                "SNN105", f"{known[entry.name].__qualname__} and {entry.__qualname__} are both {entry.name!r}"
            )
        known[entry.name] = entry
    return known


def _split(text: str, whole: str) -> Iterator[str]:
    """Split at commas outside brackets and quotes; empty text gives nothing, an empty part is an error."""
    if not text.strip():
        return
    closing = {"{": "}", "[": "]", "(": ")"}
    stack: list[str] = []
    quote = ""
    part = ""
    for letter in f"{text},":
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in closing:
            stack.append(closing[letter])
        elif letter in closing.values():
            if not stack or stack.pop() != letter:
                raise _malformed(whole, f"unexpected {letter!r}")
        elif letter == "," and not stack:
            if not part.strip():
                raise _malformed(whole, "there is an empty place between commas")
            yield part.strip()
            part = ""
            continue
        part += letter
    raise_for = quote or (stack[-1] if stack else "")
    if raise_for:
        raise _malformed(whole, f"{raise_for!r} is missing")


def _build(kind: type[Pass], text: str, whole: str) -> Pass:
    where = Where(pass_name=kind.name)
    fields = {entry.name: entry for entry in _options(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for item in _split(text, whole):
        key, equals, raw = item.partition("=")
        name = key.strip().replace("-", "_")
        if not equals:
            raise _malformed(whole, f"{item!r} lacks '=value'")
        if name not in fields:
            near = get_close_matches(name, fields, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {sorted(fields)}"
            raise UsageError("SNN223", f"has no option {key.strip()!r}", where=where, hint=hint)
        if name in values:
            raise UsageError("SNN223", f"option {key.strip()!r} is given twice", where=where)
        values[name] = _convert(_literal(raw.strip()), hints[name], name, where)
        low, high = fields[name].metadata.get("range", (None, None))
        if low is not None and values[name] is not None and not low <= values[name] <= high:
            message = f"option {key.strip()!r} is {raw.strip()[:40]}, expected {low} to {high}"
            raise UsageError("SNN223", message, where=where)
    missing = [
        entry.name
        for entry in fields.values()
        if entry.name not in values
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError("SNN223", f"needs the options {missing}", where=where)
    return kind(**values)


def _options(kind: type[Pass]) -> tuple[dataclasses.Field[Any], ...]:
    # Fields without a repr hold what a program passes in (data, callables), no options.
    return (
        tuple(entry for entry in dataclasses.fields(kind) if entry.init and entry.repr)
        if dataclasses.is_dataclass(kind)
        else ()
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _convert(value: Any, kind: Any, name: str, where: Where) -> Any:
    """Fit a literal to a declared type; the types are those a command line can say."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        for choice in typing.get_args(kind):
            try:
                return _convert(value, choice, name, where)
            except UsageError:
                continue
    elif origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
        near = get_close_matches(str(value), [str(choice) for choice in typing.get_args(kind)], n=1)
        choices = ", ".join(map(str, typing.get_args(kind)))
        raise UsageError(
            "SNN223",
            f"option {name!r} is one of {choices}, not {value!r}",
            where=where,
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    elif origin in (tuple, frozenset) and isinstance(value, tuple | list | set):
        arguments = [argument for argument in typing.get_args(kind) if argument is not Ellipsis]
        kinds = arguments * len(value) if len(arguments) == 1 else arguments
        if len(kinds) == len(value):
            return origin(
                _convert(item, expected, name, where) for item, expected in zip(value, kinds, strict=True)
            )
    elif kind is type(None) and (value is None or value == "none"):
        return None
    elif kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    elif (kind is int and isinstance(value, int) and not isinstance(value, bool)) or (
        kind is str and isinstance(value, str)
    ):
        return value
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    expected = getattr(kind, "__name__", str(kind))
    raise UsageError("SNN223", f"option {name!r} is {value!r}, expected {expected}", where=where)


def _same(default: Any, value: Any) -> bool:
    return type(default) is type(value) and bool(_has_text(value)) and bool(default == value)


def _has_text(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_has_text(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _text(value: Any) -> str:
    if isinstance(value, frozenset):
        return _text(tuple(sorted(value, key=str)))
    if isinstance(value, tuple):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return repr(value)


def _malformed(text: str, message: str) -> UsageError:
    return UsageError("SNN222", f"{message} in {text!r}", hint="write pass-name{option=value},next-pass")
