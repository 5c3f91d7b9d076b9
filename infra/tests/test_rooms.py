"""What is particular to a provider stays in its room, and the pages on rooms tell what is there."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The rooms (a code host that another provider's payload names is no provider), the provider's function, its
# action and the command that speaks its API, its samples and documents, its entries in the templates; the tests,
# the fuzz targets and the runs that break everything, which name whom they try; and what the host of this repository runs.
ROOMS = re.compile(
    r"shared/core/src/provider/|functions/github-webhook/|action/|\.github/|cli/src/operate/redeliver|events/|docs/|.*\.md$"
    r"|template\.yaml$|infra/(terraform|helm)/|(.*/)?(tests?|examples|reliability)/|fuzz/|.*(package-lock\.json|Cargo\.lock|go\.sum|\.snap)$"
)

# The code that names it all the same. GitHub is the measure: a provider may be in eight files besides its room.
NAMED = {
    "shared/core/src/provider.rs",  # the list of providers
    "shared/core/src/traceparent.rs",  # the file behind $GITHUB_ENV is a format of its own
    "cli/src/job/traceparent.rs",  # its help shows what to type in each provider's jobs
    "cli/src/settings.rs",  # a test: every variable is on the page of settings
    "packages/bundler/src/context.ts",  # an npm package sees no room: its own table of what jobs know
    "clippy.toml",  # how the name is written
}

# Comments by the end of a file's name; none where a file has none.
SLASHES = re.compile(r"(?<!\S)/\*.*?\*/|(?m:(?<!\S)//[^\n]*$)", re.DOTALL)
HASHES = re.compile(r"(?m:(?<!\S)#.*$)")
DASHES = re.compile(r"(?m:(?<!\S)--.*$)")
COMMENTS = {
    ".rs": SLASHES, ".ts": SLASHES, ".mjs": SLASHES, ".js": SLASHES, ".java": SLASHES, ".go": SLASHES,
    ".py": HASHES, ".sh": HASHES, ".tf": HASHES, ".yaml": HASHES, ".yml": HASHES, ".toml": HASHES, ".sql": DASHES,
}


def listed():
    """The files of the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def code(path, text):
    """A file without comments, the tests inside it, and addresses of repositories and their pages."""
    if comments := COMMENTS.get(Path(path).suffix):
        text = comments.sub("", text)
    if path.endswith(".rs"):
        text = re.split(r"(?m)^#\[cfg\((?:all\()?test\b.*\]\nmod \w+ \{", text)[0]
    return re.sub(r"(?i)(https?://|git@)?([\w-]+\.)*github(usercontent)?\.(com|io)[/:][\w./#?=%-]+", "", text)


def test_code_loses_comments_tests_and_addresses_and_nothing_else():
    rust = """#[cfg(test)]
mod tests;
let a = "GitHub"; // GitHub
/// GitHub
let b = "https://x.test//GitHub";
#[cfg(test)]
mod more { GitHub }
"""
    assert code("a.rs", rust).count("GitHub") == 2
    assert code("a.py", '# GitHub\nx = "GitHub"  # GitHub\n').count("GitHub") == 1
    assert "github" not in code("a.yaml", "- gomod: github.com/a/b v1\n")
    assert "github" not in code("a.json", '"$schema": "https://vega.github.io/schema/vega/v5.json"')
    assert "github" in code("a.ts", 'host ?? "github.com"')


def test_github_is_named_in_its_room_and_in_few_other_files():
    named = set()
    for path in listed():
        if ROOMS.match(path) or not (ROOT / path).is_file():
            continue
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue  # a picture
        if "github" in code(path, text).lower():
            named.add(path)
    assert named - NAMED == set(), "move what is particular to GitHub into its room"
    assert len(NAMED) <= 8


# Crates as docs/architecture.md calls them.
CRATES = {"core": "shared/core/src", "service": "shared/service/src", "cli": "cli/src", "relay": "relay/src"}
DOCS = ("architecture.md", "adding-a-provider.md")


def test_every_module_and_name_that_the_architecture_tells_is_there():
    for page in DOCS:
        text = (ROOT / "docs" / page).read_text()
        for name in set(re.findall(r"`((?:core|service|cli|relay)(?:::\w+)+)`", text)):
            crate, *path = name.split("::")
            # A module below another may be told by its own name; what is no module is an item of one.
            files = [path.relative_to(ROOT / CRATES[crate]) for path in (ROOT / CRATES[crate]).rglob("*.rs")]
            modules = {part for file in files for part in file.with_suffix("").parts}
            items = [part for part in path if part not in modules]
            module = [part for part in path if part in modules]
            assert module and path == module + items, f"{page}: {name} is no module"
            of_module = [file for file in files if module[-1] in file.with_suffix("").parts]
            code_of = "".join((ROOT / CRATES[crate] / file).read_text() for file in of_module)
            for item in items:
                assert re.search(rf"\b(fn|struct|enum|const|static|type|trait|mod) {item}\b", code_of), f"{page}: {name}"


def test_every_file_that_these_pages_name_is_there():
    for page in DOCS:
        text = (ROOT / "docs" / page).read_text()
        for name in set(re.findall(r"`([\w./-]+\.(?:rs|py|tsv|md|ts|tf|yaml|hcl))`", text)):
            assert any(f"/{path}".endswith(f"/{name}") for path in listed()), f"{page}: {name}"
