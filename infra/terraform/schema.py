"""What the AWS provider knows, for ../tests/test_terraform.py.

    pip download --no-deps -d CACHE cdktf-cdktf-provider-aws==21.22.1
    export SPANHOOK_AWS_SCHEMA=$(python infra/terraform/schema.py CACHE)

Terraform itself asks the provider, a program of hundreds of megabytes. That package (59 MB) was made
from the provider and describes it as well: this reads the description and writes
CACHE/aws-schema.json, {"resource" or "data": {type: {name: what}}}, where what is one of

    {"required": true or false, "type": "string"}           an argument
    {"required": true or false, "block": {...}, "one": true}  a block, or any number of them
    {"type": "string"}                                      what AWS makes up
"""

import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
LISTS_AND_MAPS = {
    "cdktf.StringMap": ["map", "string"],
    "cdktf.NumberMap": ["map", "number"],
    "cdktf.BooleanMap": ["map", "bool"],
    "cdktf.StringMapList": ["list", ["map", "string"]],
    "cdktf.IResolvable": "bool",
}


def description(cache):
    wheel = max(cache.glob("cdktf_cdktf_provider_aws-*.whl"))
    with zipfile.ZipFile(wheel) as outer:
        name = next(it for it in outer.namelist() if it.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
            member = next(it for it in inner if it.name == "package/.jsii")
            return json.load(inner.extractfile(member))["types"]


def plain(types, type_):
    """Terraform's type, or the name of the interface that describes a block, and whether there is one only."""
    if "union" in type_:
        # Everything may also be a value that is not known yet.
        type_ = next(it for it in type_["union"]["types"] if it.get("fqn") != "cdktf.IResolvable")
    if "primitive" in type_:
        return PRIMITIVES[type_["primitive"]], None, None
    if "collection" in type_:
        inner, block, _ = plain(types, type_["collection"]["elementtype"])
        kind = {"array": "list", "map": "map"}[type_["collection"]["kind"]]
        return [kind, inner], block, False
    if types.get(type_["fqn"], {}).get("datatype"):
        return None, type_["fqn"], True
    return LISTS_AND_MAPS.get(type_["fqn"], "dynamic"), None, None


def arguments(types, name):
    found = {}
    for it in types[name].get("properties", []):
        # Its link to the documentation ends in the name that Terraform knows it by.
        argument = re.search(r"#(\w+)\}", it["docs"]["summary"] + it["docs"].get("remarks", ""))[1]
        required = not it.get("optional", False)
        type_, block, one = plain(types, it["type"])
        if block:
            found[argument] = {"required": required, "block": arguments(types, block), "one": one}
        else:
            found[argument] = {"required": required, "type": type_}
    return found


def attributes(types, name):
    """What can be read: arguments too, and for each of them what was put in."""
    found = {}
    for it in types[name].get("properties", []):
        attribute = re.sub(r"(?<!^)([A-Z])", r"_\1", it["name"]).lower()
        type_, _, _ = plain(types, it["type"])
        if not it.get("static") and not attribute.endswith("_input"):
            found[attribute] = {"type": type_}
    return found


def schema(types):
    found = {"resource": {}, "data": {}}
    kinds = {"cdktf.TerraformResource": "resource", "cdktf.TerraformDataSource": "data"}
    for name, it in types.items():
        kind = kinds.get(it.get("base"))
        type_ = kind and re.search(r" (aws_\w+)\}", it["docs"]["summary"])
        if type_ and name + "Config" in types:
            found[kind][type_[1]] = attributes(types, name) | arguments(types, name + "Config")
    return found


if __name__ == "__main__":
    cache = Path(sys.argv[1])
    path = cache / "aws-schema.json"
    path.write_text(json.dumps(schema(description(cache))))
    print(path)
