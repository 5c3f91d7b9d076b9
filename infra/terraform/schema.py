"""What every resource of the AWS provider takes, for ../tests/test_terraform.py.

    pip download --no-deps -d CACHE cdktf-cdktf-provider-aws==21.22.1
    export SPANHOOK_AWS_SCHEMA=$(python infra/terraform/schema.py CACHE)

Terraform itself asks the provider, which is 700 MB. That package (59 MB) was made from the provider
and describes it as well: this reads the description and writes CACHE/aws-schema.json, with
{type: {argument: required}}, where a block has [required, {argument: ...}] instead.
"""

import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path


def description(cache):
    wheel = max(cache.glob("cdktf_cdktf_provider_aws-*.whl"))
    with zipfile.ZipFile(wheel) as outer:
        name = next(it for it in outer.namelist() if it.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
            member = next(it for it in inner if it.name == "package/.jsii")
            return json.load(inner.extractfile(member))["types"]


def struct(types, type_):
    """The interface behind a property's type: of one block, or of a list of them."""
    for it in type_.get("union", {}).get("types", [type_]):
        it = it.get("collection", {}).get("elementtype", it)
        name = it.get("fqn", "")
        if types.get(name, {}).get("datatype"):
            return name
        if "union" in it:
            return struct(types, it)
    return None


def arguments(types, name):
    found = {}
    for it in types[name].get("properties", []):
        # Its link to the documentation ends in the name that Terraform knows it by.
        argument = re.search(r"#(\w+)\}", it["docs"]["summary"] + it["docs"].get("remarks", ""))[1]
        required = not it.get("optional", False)
        block = struct(types, it["type"])
        found[argument] = [required, arguments(types, block)] if block else required
    return found


def schema(types):
    found = {"resource": {}, "data": {}}
    kinds = {"cdktf.TerraformResource": "resource", "cdktf.TerraformDataSource": "data"}
    for name, it in types.items():
        kind = kinds.get(it.get("base"))
        type_ = kind and re.search(r" (aws_\w+)\}", it["docs"]["summary"])
        if type_ and name + "Config" in types:
            found[kind][type_[1]] = arguments(types, name + "Config")
    return found


if __name__ == "__main__":
    cache = Path(sys.argv[1])
    path = cache / "aws-schema.json"
    path.write_text(json.dumps(schema(description(cache))))
    print(path)
