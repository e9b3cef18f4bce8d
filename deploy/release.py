"""``make release``: wheel and source archive of the tag that is checked out, into ``build/release/``.

Refuses where tag, changelog and citation do not name the same version. Uploads nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def disagreements(root: Path) -> list[str]:
    """What keeps the checkout from being a release, a line each."""
    tags = [tag for tag in _git(root, "tag", "--points-at", "HEAD").split() if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
    if len(tags) != 1:
        return [f"expected one tag vX.Y.Z at the checked out commit, found {len(tags)}: git tag -a v0.1.0 -m 0.1.0"]
    version, found = tags[0].removeprefix("v"), []
    if changed := _git(root, "status", "--porcelain").splitlines():
        found.append(f"expected a clean checkout, {len(changed)} files differ: git status")
    headings = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if headings[:2] != ["Unreleased", version]:
        found.append(f"CHANGELOG.md: expected ## Unreleased, then ## {version} - DATE, found {headings[:2]}")
    cited = re.findall(r"^version: (\S+)", (root / "CITATION.cff").read_text(), re.MULTILINE)
    if cited != [version]:
        found.append(f"CITATION.cff: expected version: {version}, found {cited}")
    return found


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def main() -> int:
    if found := disagreements(ROOT):
        print("\n".join(found), file=sys.stderr)
        return 1
    made = ROOT / "build" / "release"
    shutil.rmtree(made, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", made], cwd=ROOT, check=False)
    print(*sorted(path.name for path in made.glob("*[lz]")), sep="\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
