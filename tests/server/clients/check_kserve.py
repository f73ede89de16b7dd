"""Check an InferenceService against the classes of the kserve package; run in its environment, see kserve.txt.

The classes are generated from the API's definition. Read by themselves they leave unknown fields out, so each field is
looked up here, down to Kubernetes' own types.
"""

import re
import sys
from pathlib import Path

import kserve
import kubernetes.client
import yaml

PLAIN = {"str": str, "int": int, "bool": bool, "float": float, "object": object}


def problems(kind: str, value: object, place: str) -> list[str]:
    """What is wrong with a value of a type as the generated classes write it."""
    if inner := re.fullmatch(r"[lL]ist\[(.+)\]", kind):
        items = enumerate(value) if isinstance(value, list) else ()
        wrong = [] if isinstance(value, list) else [f"{place}: a list expected"]
        return wrong + [one for index, item in items for one in problems(inner[1], item, f"{place}[{index}]")]
    if inner := re.fullmatch(r"(?:dict\(|Dict\[)str, (.+)[)\]]", kind):
        if not isinstance(value, dict):
            return [f"{place}: a mapping expected"]
        return [one for name, item in value.items() for one in problems(inner[1], item, f"{place}.{name}")]
    if kind in PLAIN:
        return [] if isinstance(value, PLAIN[kind]) else [f"{place}={value!r}: {kind} expected"]
    if not isinstance(value, dict):
        return [f"{place}: a mapping expected"]
    return problems_of_fields(getattr(kserve, kind, None) or getattr(kubernetes.client, kind), value, place)


def problems_of_fields(model: type, value: dict, place: str) -> list[str]:
    """What is wrong with a value of a generated class."""
    names = {field: name for name, field in model.attribute_map.items()}
    found = [f"{place}.{field}: unknown" for field in value.keys() - names.keys()]
    known = {names[field]: item for field, item in value.items() if field in names}
    for name, item in known.items():
        found += problems(model.openapi_types[name], item, f"{place}.{model.attribute_map[name]}")
    try:
        model(**known)
    except ValueError as error:  # what is required, and values out of range
        found.append(f"{place}: {error}")
    return found


if __name__ == "__main__":
    service = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    wrong = problems("V1beta1InferenceService", service, "InferenceService")
    sys.stdout.write("\n".join(wrong))
    sys.exit(bool(wrong))
