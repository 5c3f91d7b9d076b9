"""What is particular to a provider stays in its room: who names GitHub elsewhere, file by file."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The rooms (a code host that another provider's payload names is no provider), the provider's function, its
# samples and documents, its entries in the templates; and the tests, which name whom they test.
ROOMS = re.compile(
    r"shared/core/src/provider/|functions/github-webhook/|action/|events/|docs/|.*\.md$|template\.yaml$"
    r"|infra/terraform/|(.*/)?tests?/|.*(package-lock\.json|Cargo\.lock|go\.sum)$"
)

# The code that names it all the same. GitHub is the measure: a provider may be in eight files besides its room.
NAMED = {
    "shared/core/src/provider.rs",  # the list of providers
    "shared/core/src/job.rs",  # what to type as an attempt, which no other provider counts
    "shared/core/src/traceparent.rs",  # the file behind $GITHUB_ENV is a format of its own
    "cli/src/samples.rs",  # the samples that the demonstration sends
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


def code(path, text):
    """A file without comments, the tests inside it, and addresses of repositories."""
    if comments := COMMENTS.get(Path(path).suffix):
        text = comments.sub("", text)
    if path.endswith(".rs"):
        text = re.split(r"(?m)^#\[cfg\(test\)\]\nmod \w+ \{", text)[0]
    return re.sub(r"(?i)(https?://|git@)?([\w-]+\.)*github(usercontent)?\.com[/:][\w./#?=%-]+", "", text)


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
    assert "github" in code("a.ts", 'host ?? "github.com"')


def test_github_is_named_in_its_room_and_in_few_other_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    named = set()
    for path in listed:
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
