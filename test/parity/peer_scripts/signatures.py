"""List what open_clip's modules offer: JSON {modules} to npz, a JSON text of {callable: [[name, default]]}."""

import enum
import importlib
import inspect
import json
import sys
import warnings

import numpy as np

# What stands behind the doors of open_clip_train here is called training.
OWN = ("open_clip", "training")


def readable(default):
    """Write a default so that it compares equal wherever its class was defined."""
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, type) or inspect.isfunction(default):
        return default.__name__
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, list | tuple | set | dict):
        return "()" if not default else repr(tuple(default))
    return repr(float(default)) if isinstance(default, np.floating) else repr(default)


def parameters(value):
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, readable(p.default)] for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def offered(module):
    for name in dir(module):
        value = getattr(module, name)
        if name.startswith("_") or not (getattr(value, "__module__", None) or "").startswith(OWN):
            continue
        if inspect.isclass(value):
            yield name, value
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_") and function.__module__.startswith(OWN):
                    yield f"{name}.{method}", function
        elif inspect.isfunction(value):
            yield name, value


def main(asked, answered):
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    found = {}
    for name in request["modules"]:
        module = importlib.import_module(name)
        found |= {f"{name}.{label}": parameters(value) for label, value in offered(module)}
    np.savez(answered, signatures=np.frombuffer(json.dumps(found).encode(), np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
